"""Progress of a download: a bar with rate and remaining time on a terminal, one line elsewhere."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

_REDRAW_S = 0.1
_FIGURES_COLUMNS = len("100%  999.9 MB of 999.9 MB  999.9 MB/s  ETA 99:59")
_SETTLE_S = 0.5  # before that a rate says nothing
_RATE_MEMORY_S = 3.0  # time constant of the smoothed rate


def format_bytes(count: float) -> str:
    """Bytes for people, in powers of 1000 as disks and networks count: `98.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_duration(seconds: float) -> str:
    """Remaining time for people: `0:07`, `12:30`, `3 h`."""
    whole_s = round(seconds)
    return f"{whole_s // 60}:{whole_s % 60:02d}" if whole_s < 100 * 60 else f"{whole_s // 3600} h"


class Progress:
    """Shows one download on a stream; never moves backwards.

    On a terminal: a bar, percentage, bytes, rate, remaining time, redrawn at most ten times a second. Elsewhere: one
    line at the start. `clock` gives seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.on_terminal = self.stream.isatty()
        self.label = ""
        self.total_bytes = 0
        self.done_bytes = 0
        self.rate = 0.0  # bytes per second, smoothed
        self._started_at = self._seen_at = self._drawn_at = clock()
        self._smoothed = 0.0  # as `rate`, but still drawn towards its initial zero

    def start(self, label: str, total_bytes: int, done_bytes: int = 0) -> None:
        """Begin a download of a known size, of which an earlier try may have left some bytes."""
        self.label, self.total_bytes, self.done_bytes = label, total_bytes, min(done_bytes, total_bytes)
        self.rate = self._smoothed = 0.0
        self._started_at = self._seen_at = self._drawn_at = self.clock()
        if self.on_terminal:
            self._draw()
        else:
            self.note(f"fetching {label} ({format_bytes(total_bytes)})")

    def update(self, done_bytes: int) -> None:
        """Tell how many bytes are here; a smaller figure than before, or one above the total, is not believed."""
        now = self.clock()
        done_bytes = min(max(done_bytes, self.done_bytes), self.total_bytes)
        elapsed_s = now - self._seen_at
        if elapsed_s > 0:
            weight = 1 - math.exp(-elapsed_s / _RATE_MEMORY_S)
            self._smoothed += weight * ((done_bytes - self.done_bytes) / elapsed_s - self._smoothed)
            self.rate = self._smoothed / (1 - math.exp((self._started_at - now) / _RATE_MEMORY_S))
            self._seen_at = now
        self.done_bytes = done_bytes
        if self.on_terminal and now - self._drawn_at >= _REDRAW_S:
            self._draw()

    def finish(self) -> None:
        """The download is complete."""
        self.done_bytes = self.total_bytes
        if self.on_terminal:
            self._draw()
            self.stream.write("\n")

    def abandon(self) -> None:
        """The download failed; leave the line, so that an error message starts on its own."""
        if self.on_terminal:
            self.stream.write("\n")

    def note(self, text: str) -> None:
        """Write one line."""
        self.stream.write(f"miaotui: {text}\n")
        self.stream.flush()

    def _draw(self) -> None:
        import shutil

        self._drawn_at = self.clock()
        self.stream.write("\r" + self.line(shutil.get_terminal_size().columns - 1))
        self.stream.flush()

    def line(self, width: int) -> str:
        """The bar as it stands, padded to `width` columns."""
        share = self.done_bytes / self.total_bytes if self.total_bytes else 1.0
        figures = f"{int(share * 100):3d}%  {format_bytes(self.done_bytes)} of {format_bytes(self.total_bytes)}"
        if self.rate > 0 and self.done_bytes < self.total_bytes and self._seen_at - self._started_at >= _SETTLE_S:
            remaining_s = (self.total_bytes - self.done_bytes) / self.rate
            figures += f"  {format_bytes(self.rate)}/s  ETA {format_duration(remaining_s)}"
        figures = figures.ljust(_FIGURES_COLUMNS)
        cells = min(40, width - len(self.label) - len(figures) - 4)
        full, empty = ("█", "░") if "utf" in (getattr(self.stream, "encoding", "") or "").lower() else ("#", "-")
        bar = full * int(share * cells) + empty * (cells - int(share * cells)) + "  " if cells >= 5 else ""
        return f"{self.label}  {bar}{figures}".ljust(width)[:width]


@contextmanager
def shown_download(label: str, total_bytes: int, folder: Path, progress: Progress | None) -> Iterator[None]:
    """Show the growth of a folder while somebody else's client downloads into it."""
    if progress is None:
        yield
        return
    stop = threading.Event()

    def poll() -> None:
        while not stop.wait(_REDRAW_S):
            progress.update(folder_bytes(folder))

    thread = threading.Thread(target=poll, name="miaotui-progress", daemon=True)
    progress.start(label, total_bytes, folder_bytes(folder))
    thread.start()
    try:
        yield
    except BaseException:
        stop.set()
        thread.join()
        progress.abandon()
        raise
    stop.set()
    thread.join()
    progress.finish()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, whose files may vanish meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, file)).st_size
    return total
