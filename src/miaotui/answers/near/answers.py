"""Whether two answers to a question say the same, as far as words can tell."""

from __future__ import annotations

from typing import Final

from miaotui.answers.near.english_words import NEGATIONS
from miaotui.answers.near.guards import verdicts
from miaotui.answers.near.reading import read_once
from miaotui.answers.near.text import Text

MAX_ANSWER_CHARACTERS: Final = 2000
"""Longer answers are hardly ever worded alike, and take long to read."""
_YES: Final = frozenset(("yes", "true", "是", "对"))
_NO: Final = frozenset(("no", "false", "否"))


def compared(one: str, other: str) -> bool | None:
    """True where every guard lets them pass; False where they say different things in the same words; None otherwise.

    "The capital of France is Paris." and "Paris is the capital of France." cannot be told from different answers by
    their words, so they are neither. False is kept for ever, so it needs what leaves no doubt: other numbers of the
    same units or a "not" in otherwise equal words, or yes against no.
    """
    first, second = read_once(one), read_once(other)
    if not any(verdicts(first, second).values()):
        return True
    return False if _contradict(first, second) else None


def _contradict(one: Text, other: Text) -> bool:
    if one.language != other.language:
        return False
    if len(one.terms) == len(other.terms) == 1:
        words = {one.terms[0].lower(), other.terms[0].lower()}
        return bool(words & _YES and words & _NO)
    same_words = _without_numbers(one) == _without_numbers(other)
    if same_words and one.numbers != other.numbers:
        return _are_exact(one) and _are_exact(other)
    return one.negations != other.negations and _without_denial(one) == _without_denial(other)


def _without_numbers(text: Text) -> list[str]:
    return ["#" if term.startswith("#") else term for term in text.terms]


def _are_exact(text: Text) -> bool:
    """Whole numbers in plain digits: 5.0 and 5 may be the same."""
    return all(number.isascii() and number.isdigit() and number[:1] != "0" for number in text.numbers)


def _without_denial(text: Text) -> list[str]:
    return [term for term in text.terms if term not in NEGATIONS and term not in ("do", "不", "没", "没有")]
