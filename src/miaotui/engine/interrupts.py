"""Ctrl-C between steps, never inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class DeferredInterrupt:
    """Context in which SIGINT waits: KeyboardInterrupt is raised on leaving, so no state is left half changed.

    Does nothing outside the main thread, or where the program handles SIGINT itself.
    """

    def __init__(self) -> None:
        self._pending = False
        self._active = False

    def __enter__(self) -> DeferredInterrupt:
        self._active = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._active:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._active:
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._pending and (error is None or isinstance(error, Exception)):
            raise KeyboardInterrupt from error

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending = True
