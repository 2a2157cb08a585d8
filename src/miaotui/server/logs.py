"""Log lines on standard error: one per request, and what goes wrong beside them; never what was asked or answered."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Any, TextIO
from urllib.parse import quote

from miaotui.config import LogFormat

MAX_LINES_WAITING = 10_000
MAX_MESSAGE = 500
_QUIET = "/:@!$&'()*+,;=~-._"


class LogWriter:
    """Writes lines in a thread of its own, so that nobody waits for a full pipe or a slow disk.

    Where too many lines wait, further ones are dropped and counted in `num_dropped`.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.num_dropped = 0
        self._thread = threading.Thread(target=self._run, name="miaotui-log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Write a line, soon. Never blocks."""
        with self._changed:
            if len(self._lines) >= MAX_LINES_WAITING:
                self.num_dropped += 1
                return
            self._lines.append(line)
            self._changed.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for at most so long."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._closing:
                    self._changed.wait()
                if not self._lines:
                    return
                text = "\n".join(self._lines) + "\n"
                self._lines.clear()
            stream = self._stream or sys.stderr
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):  # nobody reads it, or it was closed
                return


def line_of(fields: dict[str, Any], log_format: LogFormat) -> str:
    """One line with these fields; None is left out of text. Whatever the values hold, it stays one line."""
    fields = {"time": _now(), **fields}
    if log_format == "json":
        return json.dumps(fields)
    return " ".join(f"{name}={_word(value)}" for name, value in fields.items() if value is not None)


def clean(text: str, length: int = 200) -> str:
    """Text from outside as a log may hold it: of bounded length, odd characters percent-encoded."""
    return quote(text[:length], safe=_QUIET, errors="replace")


def _word(value: Any) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    if text.isprintable() and not set(' "=') & set(text):
        return text
    return json.dumps(text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LogFormatter(logging.Formatter):
    """Records of Python's logging in the same form.

    Of an exception its type and where it was raised, not its message, and of a message its first line (asyncio names
    exceptions in the second): they may quote what a client sent.
    """

    def __init__(self, log_format: LogFormat) -> None:
        super().__init__()
        self._format = log_format

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        error = record.exc_info[1] if record.exc_info else None
        message = (record.getMessage().splitlines() or [""])[0][:MAX_MESSAGE]
        fields = {"level": record.levelname.lower(), "message": message}
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)[-12:]
            where = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames))
            fields |= {"error": type(error).__name__, "where": where}
        return line_of(fields, self._format)


class LogHandler(logging.Handler):
    """Hands records to a `LogWriter`."""

    def __init__(self, writer: LogWriter, log_format: LogFormat) -> None:
        super().__init__(logging.WARNING)
        self._writer = writer
        self.setFormatter(LogFormatter(log_format))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        try:
            self._writer.write(self.format(record))
        except Exception:  # what cannot be logged must not end what was going on
            self._writer.num_dropped += 1
