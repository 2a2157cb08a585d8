"""Says where two sequences part, for the guards that compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def difference(what: str, asked: Sequence[str], kept: Sequence[str]) -> str | None:
    """None for equal sequences; else what only one of them has, or that the order differs."""
    if list(asked) == list(kept):
        return None
    first, second = Counter(asked), Counter(kept)
    only_asked, only_kept = sorted((first - second).elements()), sorted((second - first).elements())
    if not only_asked and not only_kept:
        return f"{what} in another order: {shown(asked)} against {shown(kept)}"
    return f"{what}: {shown(only_asked)} against {shown(only_kept)}"


def shown(values: Sequence[str]) -> str:
    """A few values for a message."""
    return ", ".join(value or "none" for value in values[:5]) or "none"
