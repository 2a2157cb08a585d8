"""What charts of every kind are made of."""

from __future__ import annotations

import math
import re
from html import escape

COLORS = ("#4363d8", "#f58231", "#3cb44b", "#e6194b", "#911eb4", "#42d4f4", "#9a6324", "#808000", "#f032e6", "#469990")


def escaped(text: str) -> str:
    """Text for HTML and XML; characters that these forbid are shown as U+FFFD."""
    shown = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    return escape(shown)


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", color: str = "#222") -> str:
    """Words at a place; anchor: "start", "middle" or "end" of them is there."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
    return f'<text {place} fill="{color}" text-anchor="{anchor}">{escaped(words)}</text>'


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 8 times a power of ten, so that quarters of an axis are short numbers."""
    if not 0 < value < math.inf:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 8, 10, 20) if step * unit >= value)
