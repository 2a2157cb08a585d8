"""The thread that steps an engine for everybody, and how others talk to it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from miaotui.engine.engine import Engine
from miaotui.engine.results import Delta
from miaotui.engine.sequence import Sequence

Updates = list[tuple[Sequence, Delta]]


class EngineThread:
    """Runs commands and steps in a thread of its own, in turn.

    engine: nobody else may touch it while the thread lives. deliver: called there after each step with what it gave.
    died: called there, once, with what ended the thread if that was not `close`.
    """

    def __init__(
        self, engine: Engine, deliver: Callable[[Updates], None], died: Callable[[BaseException], None]
    ) -> None:
        self._engine = engine
        self._deliver = deliver
        self._died = died
        self._commands: deque[Callable[[Engine], Any]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._beat_s = time.monotonic()
        self._busy = False
        self._thread = threading.Thread(target=self._run, name="miaotui-engine", daemon=True)
        self._thread.start()

    @property
    def stalled_s(self) -> float:
        """For how long a step has been going on; 0 while there is nothing to do."""
        return time.monotonic() - self._beat_s if self._busy else 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it still steps."""
        return self._thread.is_alive()

    def submit(self, command: Callable[[Engine], Any]) -> None:
        """Have something done between two steps. It must not raise. What comes after the end is dropped."""
        with self._changed:
            self._commands.append(command)
            self._changed.notify()

    def close(self) -> None:
        """End after the step under way; whoever waits then waits in vain."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                self._busy, self._beat_s = True, time.monotonic()
                while self._commands:
                    self._commands.popleft()(self._engine)
                updates = self._engine.step()
                if updates:
                    self._deliver(updates)
                self._busy = False
        except BaseException as error:
            self._died(error)

    def _wait(self) -> bool:
        """Until there is something to do; False where that is to end."""
        with self._changed:
            while not (self._closing or self._commands or self._engine.scheduler.has_work):
                self._changed.wait()
            return not self._closing
