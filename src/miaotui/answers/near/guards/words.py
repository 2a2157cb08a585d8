"""Words: whatever one question says, the other must say too."""

from __future__ import annotations

from collections import Counter

from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text


def same_words(asked: Text, kept: Text) -> str | None:
    """Refuse a word or sign that only one of them has: an added one narrows the question, another one changes it."""
    first, second = Counter(asked.terms), Counter(kept.terms)
    if first == second:
        return None
    only_asked, only_kept = sorted((first - second).elements()), sorted((second - first).elements())
    if only_asked and only_kept:
        return f"words: {shown(only_asked)} against {shown(only_kept)}"
    return (
        f"only the question says {shown(only_asked)}" if only_asked else f"the question does not say {shown(only_kept)}"
    )
