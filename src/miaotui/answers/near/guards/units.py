"""Units: every number in the same unit, and the same units asked for."""

from __future__ import annotations

from miaotui.answers.near.guards.sequences import difference
from miaotui.answers.near.text import Text


def same_units(asked: Text, kept: Text) -> str | None:
    """Refuse another unit, or one that only one question names: 10 kg are not 10 lb, and not 10."""
    return difference("units", asked.units, kept.units)
