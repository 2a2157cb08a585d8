"""Numbers in digits and words, with their scale and unit: "ten thousand dollars", "$10k" and "10,000 USD" are equal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from miaotui.answers.near import english_words as en
from miaotui.answers.near.tokens import Token
from miaotui.answers.near.vocabulary import words

_ORDINAL: Final = frozenset(("st", "nd", "rd", "th"))
_CURRENCIES: Final = frozenset("$€£¥₹") | {"rs", "inr", "usd", "eur", "rmb", "cny", "jpy", "gbp"}
_TENS: Final = words("twenty thirty forty fifty sixty seventy eighty ninety")
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

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].text if self.at + ahead < len(self.tokens) else ""

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]


def take_quantities(tokens: list[Token]) -> tuple[list[Token], Quantities]:
    """The tokens with every number as one token of its value, its unit taken out; and the quantities."""
    reader = _Reader(tokens)
    rest: list[Token] = []
    numbers: list[str] = []
    units: list[str] = []
    alone: list[str] = []
    while reader.at < len(tokens):
        currency = ""
        if reader.peek() in _CURRENCIES and _is_number(reader, 1):
            currency = en.UNITS[reader.take().text]
        if not _is_number(reader, 0):
            token = reader.take()
            if token.text in en.UNITS and token.text not in en.UNITS_BEHIND_NUMBERS:
                alone.append(en.UNITS[token.text])
            rest.append(token)
            continue
        starts = tokens[reader.at].starts
        value = _value(reader)
        unit = currency or _unit(reader)
        numbers.append(value)
        units.append(unit)
        rest.append(Token("number", value, value, starts))
    return rest, Quantities(tuple(numbers), (*units, *alone))


def _is_number(reader: _Reader, ahead: int) -> bool:
    index = reader.at + ahead
    if index >= len(reader.tokens):
        return False
    token = reader.tokens[index]
    return token.kind == "number" or (token.kind == "word" and (token.text in en.NUMBERS or token.text in en.ORDINALS))


def _value(reader: _Reader) -> str:
    """The number's value as text; an ordinal ends in a dot."""
    token = reader.take()
    if token.text in en.ORDINALS:
        return f"{en.ORDINALS[token.text]}."
    digits = token.text.replace(",", "") if token.kind == "number" else en.NUMBERS[token.text]
    if token.text in _TENS and len(en.NUMBERS.get(reader.peek(), "10")) == 1:
        digits = digits[0] + en.NUMBERS[reader.take().text]
    if reader.peek() in _ORDINAL:
        reader.take()
        return exact(digits) + "."
    if reader.peek() == "s" and token.kind == "number":  # the 1980s
        reader.take()
        return exact(digits) + "s"
    scale = 1
    while reader.peek() in en.SCALES:
        scale *= en.SCALES[reader.take().text]
    return exact(digits, scale)


def exact(digits: str, scale: int = 1) -> str:
    """A number times its scale, exactly. Without a scale as it is written: version 3.10 is not 3.1, nor agent 007 7."""
    if scale == 1 or len(digits) > _LONGEST:
        return digits if scale == 1 else f"{digits}*{scale}"
    value = Decimal(digits) * scale
    return format(value.quantize(1) if value == value.to_integral_value() else value, "f")


def _unit(reader: _Reader) -> str:
    if reader.peek() == "%":
        reader.take()
        return "percent"
    if reader.peek() in en.UNITS and reader.peek() not in ("a", "won", "may"):
        return en.UNITS[reader.take().text]
    return ""
