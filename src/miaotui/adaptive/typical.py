"""What a figure is usually, of late."""

from __future__ import annotations

from collections import deque
from statistics import median_low

KEPT = 15


class Typical:
    """The median of the last few values, so that none decides alone. first: as long as there are none."""

    def __init__(self, first: float) -> None:
        self.value = first
        """In the unit of what came."""
        self._seen: deque[float] = deque(maxlen=KEPT)

    def observe(self, value: float) -> None:
        """One more."""
        self._seen.append(value)
        self.value = median_low(self._seen)
