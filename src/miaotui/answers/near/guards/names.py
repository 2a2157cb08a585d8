"""Names: what one question writes as a name must be in the other, as a name or as a word."""

from __future__ import annotations

from miaotui.answers.near.english_words import ACRONYM_OR_WORD
from miaotui.answers.near.guards.sequences import shown
from miaotui.answers.near.text import Text


def same_names(asked: Text, kept: Text) -> str | None:
    """Refuse a name that only one of them knows; NET is not "net", though Paris may be written "paris"."""
    for these, others, whose in ((asked, kept, "the question"), (kept, asked, "the kept question")):
        known = {*others.terms, *others.words}
        missing = sorted(name for name in these.names if name not in known or _is_only_a_word(name, others))
        if missing:
            return f"only {whose} names {shown(missing)}"
    return None


def _is_only_a_word(name: str, text: Text) -> bool:
    return name in ACRONYM_OR_WORD and name not in text.names
