"""Numbers in digits and words, with their scale and unit: "ten thousand dollars", "$10k" and "10,000 $" are equal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from miaotui.answers.near import english_words as en
from miaotui.answers.near.tokens import Token

_ORDINAL: Final = frozenset(("st", "nd", "rd", "th"))
_CURRENCIES: Final = frozenset("$€£₹")
_LONGEST: Final = 12  # digits that are multiplied; Decimal keeps 28


@dataclass(frozen=True, slots=True)
class Quantities:
    """Numbers in order; their units in order, "" for none, and behind them the units that stand without a number."""

    numbers: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    tokens: list[Token]
    at: int = 0

    def peek(self, ahead: int = 0) -> Token:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else Token("end", "")

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]


def take_quantities(tokens: list[Token]) -> tuple[list[Token], Quantities]:
    """The tokens with every number as one of its value and, behind it, one of its unit; and the quantities."""
    reader = _Reader(tokens)
    rest: list[Token] = []
    numbers: list[str] = []
    units: list[str] = []
    alone: list[str] = []
    while reader.at < len(tokens):
        currency = ""
        if reader.peek().text.strip() in _CURRENCIES and reader.peek(1).kind == "number" and not reader.peek(1).apart:
            currency = en.UNITS[reader.take().text.strip()]
        if not _is_number(reader.peek()):
            token = reader.take()
            if token.text in en.UNITS and token.text not in en.UNITS_BEHIND_NUMBERS:
                token = Token("unit", en.UNITS[token.text])
                alone.append(token.text)
            rest.append(token)
            continue
        value, unit = _quantity(reader, currency)
        below_zero = bool(rest) and rest[-1].text == " -"
        numbers.append(("-" if below_zero else "") + value)
        units.append(unit)
        rest.append(Token("number", value))
        rest += [Token("unit", unit)] if unit else []
    return rest, Quantities(tuple(numbers), (*units, *alone))


def _is_number(token: Token) -> bool:
    return token.kind == "number" or token.text in en.NUMBERS or token.text in en.ORDINALS


def _quantity(reader: _Reader, currency: str) -> tuple[str, str]:
    """The number's value as text, an ordinal's with a dot; and its unit."""
    token = reader.take()
    if token.text in en.ORDINALS:
        return f"{en.ORDINALS[token.text]}.", currency
    digits = en.NUMBERS.get(token.text, token.text)
    behind = reader.peek()
    if token.kind == "number" and behind.text in _ORDINAL and not behind.apart:
        reader.take()
        return f"{digits}.", currency
    if token.kind == "number" and (decade := _length_of_decade(reader)):
        reader.at += decade
        return f"{digits}s", currency
    scale = 1
    while reader.peek().text in en.SCALES and reader.peek(1).text != "-":  # "two thousand-dollar prizes" are two
        scale *= en.SCALES[reader.take().text]
    if scale == 1 and behind.text == "k" and not behind.apart and (currency or reader.peek(1).text in en.UNITS):
        reader.take()
        scale = 1000
    value = exact(digits, scale)
    return value, currency or _unit(reader)


def _length_of_decade(reader: _Reader) -> int:
    """Tokens of the s in "1980s" and "1980's"."""
    if reader.peek().text == "s" and not reader.peek().apart:
        return 1
    quoted = reader.peek().text == "'" and reader.peek(1).text == "s"
    return 2 if quoted and not reader.peek().apart and not reader.peek(1).apart else 0


def exact(digits: str, scale: int = 1) -> str:
    """A number times its scale, exactly. Without a scale as it is written: version 3.10 is not 3.1, nor agent 007 7."""
    if scale == 1 or len(digits) > _LONGEST or not digits.replace(".", "", 1).isdecimal():
        return digits if scale == 1 else f"{digits}*{scale}"
    value = Decimal(digits) * scale
    return format(value.quantize(1) if value == value.to_integral_value() else value, "f")


def _unit(reader: _Reader) -> str:
    token = reader.peek()
    if token.text == "%" and not token.apart and reader.peek(1).kind != "number":
        reader.take()
        return "percent"
    return en.UNITS[reader.take().text] if token.text in en.UNITS and token.kind == "word" else ""
