"""Steps of several engines in one process, one at a time: each wants all of the cores."""

from __future__ import annotations

import threading
from types import TracebackType


class StepTurns:
    """A lock that is taken in the order in which it was asked for, so that no engine waits for more than one step of
    each other one. A plain lock would mostly go to whoever has just let go of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = self._now = 0

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a turn."""
        return self._next > self._now + 1

    def __enter__(self) -> None:
        with self._changed:
            own, self._next = self._next, self._next + 1
            while self._now != own:
                self._changed.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._now += 1
            self._changed.notify_all()
