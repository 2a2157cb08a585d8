"""Remembers that a server cannot be reached, so that not every question finds it out anew."""

from __future__ import annotations

import time
from collections.abc import Callable

from miaotui.errors import StoreError

RETRY_S = 1.0
"""After so long a server that could not be reached is tried again."""


class Outage:
    """Between `begin` and `end`, `check` refuses all but one try per `retry_s`."""

    def __init__(self, retry_s: float = RETRY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry_s = retry_s
        self._clock = clock
        self._again_s = float("-inf")
        self._why: StoreError | None = None

    def check(self) -> None:
        """Raise the StoreError that began it, unless it is time to try again; then others are refused meanwhile."""
        if self._why is None:
            return
        now_s = self._clock()
        if now_s < self._again_s:
            raise StoreError(f"{self._why}; it is tried again every {self._retry_s:g} s")
        self._again_s = now_s + self._retry_s

    def begin(self, why: StoreError) -> None:
        """The server could not be reached."""
        self._why = why
        self._again_s = self._clock() + self._retry_s

    def end(self) -> None:
        """It could."""
        self._why = None
