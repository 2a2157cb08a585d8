"""Language: an answer is in the language of its question."""

from __future__ import annotations

from miaotui.answers.near.text import Text


def same_language(asked: Text, kept: Text) -> str | None:
    """Refuse a question in another language, and one without words."""
    if not asked.terms:
        return "the question has no words"
    if asked.language != kept.language:
        return f"languages: {asked.language or 'none'} against {kept.language or 'none'}"
    return None
