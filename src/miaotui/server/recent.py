"""What happened within the last minute, for a page that draws it live."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 60.0
MOST = 8192
"""Observations kept of each kind; of more, the latest."""


class Recent:
    """Values with the time they came at."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._values: deque[tuple[float, float]] = deque(maxlen=MOST)

    def add(self, value: float) -> None:
        """It happened now."""
        self._values.append((self._now(), value))

    def values(self) -> list[float]:
        """Those of the last minute, in ascending order."""
        oldest_s = self._now() - WINDOW_S
        while self._values and self._values[0][0] < oldest_s:
            self._values.popleft()
        return sorted(value for _, value in self._values)

    def percentiles_ms(self) -> dict[str, float] | None:
        """Median and tails of seconds, in milliseconds; None where nothing happened."""
        values = self.values()
        if not values:
            return None
        return {
            f"p{share}": round(values[min(len(values) * share // 100, len(values) - 1)] * 1e3, 3)
            for share in (50, 95, 99)
        }

    def rate(self, running_s: float) -> float:
        """Their sum per second of the window, or of the time since the start where that is shorter."""
        return sum(self.values()) / max(min(WINDOW_S, running_s), 1.0)
