"""Question words, who asks, and whether it is, was, can or should be so."""

from __future__ import annotations

from miaotui.answers.near.guards.sequences import difference
from miaotui.answers.near.text import Text


def same_question(asked: Text, kept: Text) -> str | None:
    """Refuse another question about the same: when for where, why for whether, was for is, can for should."""
    return (
        difference("question words", asked.questions, kept.questions)
        or difference("tense or mood", sorted(asked.moods), sorted(kept.moods))
        or difference("who is asked about", sorted(asked.persons), sorted(kept.persons))
    )
