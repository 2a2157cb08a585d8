"""Whether steps end in time: since when the engine has been busy without result, and how long that may take.

docs/decisions/0014 has the reasons.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from miaotui.engine.scheduler import Slice

ATTENTION_TOKENS = 1024
"""Reading a token behind so many others is taken to cost twice as much as reading the first one."""
FADING = 0.9
"""What remains of the longest step of a size with each further one: a disturbed one is forgotten after some dozens."""


class Heartbeat:
    """Beats at the end of every step that did something. Written by the engine's thread, read by others.

    Steps are told apart by the size of their work (in powers of two); for a size not seen yet, the time of a smaller
    one is scaled up, which overestimates.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self._longest_s: dict[int, float] = {}
        self._is_others_turn = False
        self._asked_s = 0.0

    @property
    def stalled_s(self) -> float:
        """For how long there has been something to do without a step that ended; 0 while there is nothing, or it is
        another engine's turn."""
        since_s = self._since_s
        return 0.0 if since_s is None or self._is_others_turn else self._clock() - since_s

    def begin(self) -> None:
        """There is something to do; nothing changes if there was before."""
        if self._since_s is None:
            self._since_s = self._clock()

    def go_on(self) -> None:
        """Something other than a step has been done; nothing changes while there is nothing to do."""
        if self._since_s is not None:
            self._since_s = self._clock()

    def wait_for_turn(self) -> None:
        """Another engine may be making a step; `have_turn` follows when that has ended."""
        self._asked_s = self._clock()
        self._is_others_turn = True

    def have_turn(self) -> None:
        """It is this engine's turn. What it waited does not count; what was before that does."""
        if self._since_s is not None:
            self._since_s += self._clock() - self._asked_s
        self._is_others_turn = False

    def rest(self) -> None:
        """There is nothing to do."""
        self._since_s = None

    def beat(self, slices: Iterable[Slice], seconds: float) -> None:
        """A step with these slices has ended, after so many seconds."""
        self._since_s = self._clock()
        size = _size(work_of(slices))
        self._longest_s[size] = max(seconds, FADING * self._longest_s.get(size, 0.0))

    def expected_s(self, slices: Iterable[Slice]) -> float | None:
        """How long a step with these slices takes at most if nothing is wrong; None before any was seen."""
        size, seen = _size(work_of(slices)), dict(self._longest_s)
        if not seen:
            return None
        known = max((s for s in seen if s <= size), default=min(seen))
        return seen[known] * 2.0 ** max(size - known, 0)

    def forget(self) -> None:
        """Forget how long steps took."""
        self._longest_s.clear()


def work_of(slices: Iterable[Slice]) -> float:
    """A step's work, in tokens read at the beginning of a text."""
    return sum(part.num_tokens * (1 + part.sequence.num_computed_tokens / ATTENTION_TOKENS) for part in slices)


def _size(work: float) -> int:
    return int(work).bit_length()
