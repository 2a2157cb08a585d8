"""Chinese questions taken apart: set words first, the longest that fits; every other character stands for itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from miaotui.answers.near import chinese_words as zh
from miaotui.answers.near import plain
from miaotui.answers.near.chinese_numbers import value_of
from miaotui.answers.near.guards.opposites import OPPOSITES
from miaotui.answers.near.quantities import exact
from miaotui.answers.near.text import Text, negations_of
from miaotui.answers.near.tokens import Token, folded

_NUMERAL: Final = "".join((*zh.NUMERALS, *zh.SCALES))
_HAN: Final = "\u3400-\u9fff"
_SET_WORDS: Final = {
    *zh.QUESTIONS, *zh.SAME, *zh.SAME.values(), *zh.MOODS, *zh.PERSONS, *zh.DATES, *zh.NAMES,
    *(word for word in OPPOSITES if re.fullmatch(rf"[{_HAN}]{{2,}}", word)),
}  # fmt: skip


def _any_of(words: set[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


_PIECE: Final = re.compile(
    rf"""
    (?P<number>第?(?:\d+(?:[.,]\d+)*[万亿千百]?|[{_NUMERAL}]{{2,}}|[{_NUMERAL}](?=(?:{_any_of(set(zh.UNITS))})|$)))
        (?P<unit>{_any_of(set(zh.UNITS))})?
  | (?P<set>{_any_of(_SET_WORDS)})
  | (?P<latin>[^\W\d_{_HAN}](?:[^\W_{_HAN}])*)
  | (?P<sign>\S)
    """,
    re.VERBOSE,
)
_SCALES: Final = {**zh.SCALES, "亿": 10**8}
_SPACE: Final = re.compile(rf"\s+(?=[{_HAN}])|(?<=[{_HAN}])\s+")


@dataclass(slots=True)
class _Parts:
    terms: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    dates: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    questions: list[str] = field(default_factory=list)


def analyse(raw: str, tokens: list[Token]) -> Text:
    """A question with Chinese characters; Latin words in it count as they are written."""
    if zh.ABOUT_WORDS.search(raw):
        return plain.analyse(raw, tokens, "zh")
    parts = _Parts()
    for match in _PIECE.finditer(_plain(raw)):
        _collect(parts, match)
    terms = tuple(parts.terms)
    return Text(
        raw, "zh", terms, tuple(token.text.lower() for token in tokens if token.kind != "sign"), tuple(parts.numbers),
        tuple(parts.units), tuple(parts.dates), frozenset(parts.names), negations_of(terms, zh.NEGATIONS),
        frozenset(zh.MOODS[term] for term in terms if term in zh.MOODS), zh.PERSONS & set(terms),
        tuple(parts.questions),
    )  # fmt: skip


def _plain(raw: str) -> str:
    """The text without the mark at its end and spaces beside characters, in the one form of `REWRITES`."""
    text = _SPACE.sub("", folded(raw).strip())
    text = re.sub(rf"(?<=[\w{_HAN}])(?:\?+|[。.])$", "", text)
    for pattern, form in zh.REWRITES:
        text = pattern.sub(form, text, count=1)
    return text


def _collect(parts: _Parts, match: re.Match[str]) -> None:
    piece = match.group()
    if match["number"] and piece not in zh.NOT_NUMBERS:
        _add_number(parts, match["number"], match["unit"] or "")
        return
    if match["set"]:
        piece = zh.SAME.get(piece, piece)
        parts.questions += [zh.QUESTIONS[piece]] if piece in zh.QUESTIONS else []
        parts.dates += [piece] if piece in zh.DATES else []
    if match["latin"] or piece in zh.NAMES:
        parts.names.add(piece)
    parts.terms.append(piece)


def _add_number(parts: _Parts, digits: str, unit: str) -> None:
    unit = zh.UNITS.get(unit, unit)
    ordinal = "第" if digits.startswith("第") else ""
    value = _value(digits.removeprefix("第"))
    below_zero = parts.terms[-1:] == ["-"] and not ordinal
    parts.numbers.append(ordinal + ("-" if below_zero else "") + value)
    parts.units.append(unit)
    parts.terms += [f"#{ordinal}{value}", *([f"~{unit}"] if unit else [])]


def _value(digits: str) -> str:
    """The value of "25", "1,200", "3.5万", "一百二十"; what is no plain number as it is written."""
    digital = re.fullmatch(r"(\d+(?:\.\d+)?|[1-9]\d{0,2}(?:,\d{3})+)([万亿千百]?)", digits)
    if digital:
        return exact(digital[1].replace(",", ""), _SCALES.get(digital[2], 1))
    return value_of(digits) or digits if digits[0] in _NUMERAL else digits
