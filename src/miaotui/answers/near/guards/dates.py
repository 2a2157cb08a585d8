"""Dates: months, days, times of day and words like "yesterday"; years are numbers."""

from __future__ import annotations

from miaotui.answers.near.guards.sequences import difference
from miaotui.answers.near.text import Text


def same_dates(asked: Text, kept: Text) -> str | None:
    """Refuse another time."""
    return difference("dates", sorted(asked.dates), sorted(kept.dates))
