"""Negation and opposites: "not", "without", "never", un-, and pairs such as on and off."""

from __future__ import annotations

from collections import Counter
from typing import Final

from miaotui.answers.near.guards.opposites import OPPOSITES
from miaotui.answers.near.guards.sequences import difference
from miaotui.answers.near.text import Text

_PREFIXES: Final = ("un", "in", "im", "il", "ir", "dis", "non", "mis", "anti", "de", "under", "over", "a")


def same_negation(asked: Text, kept: Text) -> str | None:
    """Refuse a negation that only one of them has or that denies another word, and words that are opposites."""
    denied = difference("negations", asked.negations, kept.negations)
    if denied:
        return denied
    only_asked, only_kept = _only(asked, kept), _only(kept, asked)
    for word in only_asked:
        for other in only_kept:
            if other in OPPOSITES.get(word, ()) or _is_prefixed(word, other) or _is_prefixed(other, word):
                return f"opposites: {word} against {other}"
    return None


def _only(one: Text, other: Text) -> set[str]:
    """What only one of them says: terms, and words as they are written."""
    terms = Counter(one.terms) - Counter(other.terms)
    return {*terms, *(set(one.words) - set(other.words))}


def _is_prefixed(word: str, stem: str) -> bool:
    return len(stem) > 2 and any(word == prefix + stem for prefix in _PREFIXES)
