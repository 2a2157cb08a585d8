"""Numbers: the same ones, in the same order."""

from __future__ import annotations

from miaotui.answers.near.guards.sequences import difference
from miaotui.answers.near.text import Text


def same_numbers(asked: Text, kept: Text) -> str | None:
    """Refuse another number, however small the difference; "10k" and "ten thousand" are the same."""
    return difference("numbers", asked.numbers, kept.numbers)
