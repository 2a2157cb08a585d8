"""Words: whatever one question speaks of, the other must speak of too."""

from __future__ import annotations

from collections import Counter

from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text


def same_words(asked: Text, kept: Text) -> str | None:
    """Refuse a word that only one of them has: an added one narrows the question, another one changes it.

    Words that are written apart in one and together in the other ("cell phone", "cellphone") are the same.
    """
    first, second = Counter(asked.terms), Counter(kept.terms)
    if first == second or "".join(asked.terms) == "".join(kept.terms):
        return None
    only_asked, only_kept = sorted((first - second).elements()), sorted((second - first).elements())
    if only_asked and only_kept:
        return f"words: {shown(only_asked)} against {shown(only_kept)}"
    return (
        f"only the question speaks of {shown(only_asked)}" if only_asked else f"nothing is asked of {shown(only_kept)}"
    )
