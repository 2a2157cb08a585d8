"""Chinese questions taken apart: set words first, the longest that fits; every other character stands for itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from miaotui.answers.near import chinese_words as zh
from miaotui.answers.near.quantities import exact
from miaotui.answers.near.stems import stem
from miaotui.answers.near.text import Parts, Text
from miaotui.answers.near.tokens import Token, quoted

_NUMERAL: Final = "".join((*zh.NUMERALS, *zh.SCALES))
_SET_WORDS: Final = {
    *zh.QUESTIONS,
    *zh.FILLERS,
    *zh.SAME,
    *zh.SAME.values(),
    *zh.MOODS,
    *zh.PERSONS,
    *zh.DATES,
    *zh.NAMES,
    *zh.PROTECTED,
}
_UNITS: Final = {word for word in (*zh.UNITS, *zh.SAME) if zh.SAME.get(word, word) in zh.UNITS} | {
    "km", "cm", "kg", "g", "ml", "mm", "m", "%", "t", "gb", "mb",
}  # fmt: skip


def _any_of(words: set[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


_PIECE: Final = re.compile(
    rf"""
    (?P<number>第?(?:-?\d+(?:\.\d+)?[万亿千百]?|[{_NUMERAL}]{{2,}}|[{_NUMERAL}](?=(?:{_any_of(_UNITS)})|$))
        (?P<unit>{_any_of(_UNITS)})?)
  | (?P<set>{_any_of(_SET_WORDS)})
  | (?P<choice>(?P<twice>[\u3400-\u9fff])[不没](?P=twice))
  | (?P<latin>[^\s\u3400-\u9fff\d][^\s\u3400-\u9fff]*)
  | (?P<sign>\S)
    """,
    re.VERBOSE,
)
_LATIN_UNITS: Final = {"km": "千米", "cm": "厘米", "kg": "千克", "g": "克", "ml": "毫升", "mm": "毫米", "m": "米"}


@dataclass(slots=True)
class _Parts(Parts):
    numbers: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)


def analyse(raw: str, tokens: list[Token]) -> Text:
    """A question with Chinese characters; Latin words in it count as they are, without their English endings."""
    parts = _Parts()
    for match in _PIECE.finditer(_joined(tokens)):
        kind = "number" if match["number"] else str(match.lastgroup)
        _collect(parts, "unit" if kind == "unit" else kind, match)
    if len(set(parts.persons)) < 2:
        parts.terms = [term for term in parts.terms if not term.startswith("@")]
        if parts.questions[:1] == ["how"]:
            parts.persons.clear()
            parts.moods.discard("can")
    ends = (*parts.terms, "")
    negations = tuple(f"{term} {ends[i + 1]}".strip() for i, term in enumerate(parts.terms) if term in zh.NEGATIONS)
    return Text(
        raw, "zh", tuple(parts.terms), tuple(token.text for token in tokens), tuple(parts.numbers),
        tuple(parts.units), tuple(parts.dates), frozenset(parts.names), negations, frozenset(parts.moods),
        frozenset(parts.persons), tuple(dict.fromkeys(parts.questions)), quoted=quoted(raw),
    )  # fmt: skip


def _joined(tokens: list[Token]) -> str:
    """The text without punctuation; a space only where two pieces would run together."""
    pieces: list[str] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and "han" not in (before.kind, token.kind) and not _unit_behind(before, token):
            pieces.append(" ")
        pieces.append(token.text)
    return "".join(pieces)


def _unit_behind(before: Token, token: Token) -> bool:
    return before.kind == "number" and (token.text in _LATIN_UNITS or token.text in ("%", "t", "gb", "mb"))


def _collect(parts: _Parts, kind: str, match: re.Match[str]) -> None:
    piece = match.group()
    if kind == "number":
        if piece in zh.NOT_NUMBERS:
            parts.terms += piece
            return
        _add_number(parts, piece, match["unit"] or "")
    elif kind == "set":
        _add_set_word(parts, piece)
    elif kind == "choice":
        parts.questions.append("whether")
        parts.terms.append(piece[0])
    elif kind == "latin":
        parts.terms.append(stem(piece))
        parts.names.add(stem(piece))
    else:
        parts.terms.append(piece)


def _add_number(parts: _Parts, piece: str, unit: str) -> None:
    digits = piece.removesuffix(unit) if unit else piece
    value = ("第" if digits.startswith("第") else "") + _value(digits.removeprefix("第"))
    unit = _LATIN_UNITS.get(unit, unit)
    parts.numbers.append(value)
    parts.units.append(zh.SAME.get(unit, unit))
    parts.terms.append("#" + value)


def _value(digits: str) -> str:
    """The value of "25", "3.5万", "一百二十", "二〇一六"."""
    plain = re.fullmatch(r"(-?\d+(?:\.\d+)?)([万亿千百]?)", digits)
    if plain:
        return exact(plain[1], zh.SCALES.get(plain[2], 1))
    if not any(digit in zh.SCALES for digit in digits):
        return "".join(str(zh.NUMERALS[digit]) for digit in digits)
    total = part = digit = 0
    for sign in digits:
        if sign in zh.NUMERALS:
            digit = zh.NUMERALS[sign]
        elif zh.SCALES[sign] >= 10**4:
            total, part, digit = (total + part + digit) * zh.SCALES[sign], 0, 0
        else:
            part, digit = part + (digit or 1) * zh.SCALES[sign], 0
    return str(total + part + digit)


def _add_set_word(parts: _Parts, piece: str) -> None:
    if piece in zh.QUESTIONS:
        parts.questions.append(zh.QUESTIONS[piece])
        piece = zh.REST_OF_QUESTION.get(piece, "")
    word = zh.SAME.get(piece, piece)
    if word in zh.MOODS:
        parts.moods.add(zh.MOODS[word])
    elif word in zh.PERSONS:
        parts.persons.append(zh.PERSONS[word])
        parts.terms.append("@" + zh.PERSONS[word])
    elif word and word not in zh.FILLERS:
        if word in zh.DATES:
            parts.dates.append(word)
        if word in zh.NAMES:
            parts.names.add(word)
        parts.terms.append(word)
