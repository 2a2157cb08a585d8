"""Order and direction: what both questions speak of comes in the same order, on the same side of from, to, vs, than."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from miaotui.answers.near.english_words import UNORDERED
from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text

_LONGEST: Final = 40  # terms of a question that is turned around
_SYMMETRIC: Final = frozenset(("difference", "similarity", "similar"))


def same_order(asked: Text, kept: Text) -> str | None:
    """Refuse the same words in another order: who does what to whom, from where to where, which against which.

    "The difference between A and B" may name B first, and "stress at work" may be "work stress".
    Words that only one of them has are not its business.
    """
    common = Counter(asked.terms) & Counter(kept.terms)
    first = _reduced(asked.terms, common)
    second = _reduced(kept.terms, common)
    if first == second or _joined_alike(first, second):
        return None
    if asked.language == "en" and any(variant == second for variant in _swapped(first)):
        return None
    if asked.terms and (list(kept.terms) in _turned(asked, kept) or list(asked.terms) in _turned(kept, asked)):
        return None
    start = next(i for i, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
    return f"order: {shown(first[start:])} against {shown(second[start:])}"


def _reduced(terms: tuple[str, ...], common: Counter[str]) -> list[str]:
    """The terms both have, without those that may stand anywhere."""
    left = Counter(common)
    result: list[str] = []
    for term in terms:
        if left[term] > 0:
            left[term] -= 1
            if term not in UNORDERED:
                result.append(term)
    return result


def _joined_alike(first: list[str], second: list[str]) -> bool:
    return "".join(first) == "".join(second)


def _swapped(terms: list[str]) -> Iterator[list[str]]:
    """Nothing but "difference between A and B", as "difference between B and A"; A and B of one to three words."""
    if not 4 <= len(terms) <= 8 or terms[0] not in _SYMMETRIC or terms[1] != "between":
        return
    rest = terms[2:]
    for cut in range(1, len(rest)):
        yield [*terms[:2], *rest[cut:], *rest[:cut]]


def _turned(linked: Text, other: Text) -> list[list[str]]:
    """The terms with "B of A" as "A B", for each of, in, on, at, for that the other does without."""
    terms = list(linked.terms)
    variants: list[list[str]] = []
    if len(linked.links) <= len(other.links) or len(terms) != len(other.terms) or len(terms) > _LONGEST:
        return variants
    for at in linked.links:
        for start in range(max(0, at - 2), at):
            ends = range(at + 1, min(len(terms), at + 3) + 1)
            variants += ([*terms[:start], *terms[at:end], *terms[start:at], *terms[end:]] for end in ends)
    return variants
