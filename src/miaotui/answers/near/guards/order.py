"""Order and direction: what both questions speak of comes in the same order, on the same side of from, to, vs, than."""

from __future__ import annotations

from collections import Counter

from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text


def same_order(asked: Text, kept: Text) -> str | None:
    """Refuse the same words in another order: who does what to whom, from where to where, which against which.

    Words that only one of them has are not its business.
    """
    common = Counter(asked.terms) & Counter(kept.terms)
    first, second = _reduced(asked.terms, common), _reduced(kept.terms, common)
    if first == second:
        return None
    start = next(i for i, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
    return f"order: {shown(first[start:])} against {shown(second[start:])}"


def _reduced(terms: tuple[str, ...], common: Counter[str]) -> list[str]:
    """The terms both have; of those that one has more often, the first."""
    left = Counter(common)
    result: list[str] = []
    for term in terms:
        if left[term] > 0:
            left[term] -= 1
            result.append(term)
    return result
