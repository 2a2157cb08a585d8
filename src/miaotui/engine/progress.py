"""How far a call that answers many prompts has come, as one line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import TextIO

from miaotui.engine.sequence import Sequence

REDRAW_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Completions that have ended, of how many; tokens generated so far; seconds since the call."""

    done: int
    total: int
    output_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """Of all completions together."""
        return self.output_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0


ProgressCallback = Callable[[Progress], None]


def reporter(
    wanted: bool | ProgressCallback | None, num_prompts: int, stream: TextIO | None = None
) -> ProgressCallback:
    """What to call with each `Progress`: the caller's own, a line on the terminal, or nothing.

    wanted: None draws where several prompts are answered and standard error is a terminal.
    """
    if callable(wanted):
        return wanted
    out = sys.stderr if stream is None else stream
    if wanted is None:
        wanted = num_prompts > 1 and out is not None and out.isatty()
    return _Line(out) if wanted and out is not None else lambda progress: None


class ProgressMeter:
    """Looks at sequences after each step and reports, at most every tenth of a second and at the end."""

    def __init__(self, sequences: Row[Sequence], report: ProgressCallback) -> None:
        self._sequences = sequences
        self._report = report
        self._start_s = time.monotonic()
        self._next_s = self._start_s + REDRAW_S

    def look(self) -> bool:
        """Whether all have ended."""
        done = sum(sequence.finish_reason is not None for sequence in self._sequences)
        now_s, is_over = time.monotonic(), done == len(self._sequences)
        if is_over or now_s >= self._next_s:
            self._next_s = now_s + REDRAW_S
            tokens = sum(sequence.num_output_tokens for sequence in self._sequences)
            self._report(Progress(done, len(self._sequences), tokens, now_s - self._start_s))
        return is_over


class _Line:
    """A bar of 20 cells, counts, rate and the time that is left, drawn over itself."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, progress: Progress) -> None:
        done, total = progress.done, progress.total
        bar = ("█" * (20 * done // total)).ljust(20, "░")
        left = ""
        if 0 < done < total:
            left_s = int(progress.elapsed_s * (total - done) / done)
            left = f", {left_s // 60}:{left_s % 60:02} left"
        text = f"{bar} {done}/{total} answers, {progress.tokens_per_s:,.0f} tokens/s{left}"
        self._out.write(f"\r{text}\x1b[K" + ("\n" if done == total else ""))
        self._out.flush()
