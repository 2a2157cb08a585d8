"""What a figure is usually, of late."""

from __future__ import annotations

from collections import deque
from statistics import median_low

KEPT = 15


class Typical:
    """The median of the last few values, so that none decides alone. first: as long as there are none."""

    __slots__ = ("_first", "_seen", "_value")

    def __init__(self, first: float) -> None:
        self._first = first
        self._seen: deque[float] = deque(maxlen=KEPT)
        self._value = first

    @property
    def value(self) -> float:
        """In the unit of what came."""
        return self._value

    @property
    def is_known(self) -> bool:
        """Whether any came."""
        return bool(self._seen)

    def observe(self, value: float) -> None:
        """One more."""
        self._seen.append(value)
        self._value = median_low(self._seen)
