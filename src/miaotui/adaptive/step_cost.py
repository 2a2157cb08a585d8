"""What a step costs by its tokens, learned while steps run."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Row
from statistics import median_low

SIZES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of drafted tokens in a step; no others are tried, so that each is seen often."""
KEPT, FEW = 7, 3
"""So many observations of a size count, by their median: one that was disturbed decides nothing, where there are a few.
"""
PRESENT, MOST_SURPRISE = 0.3, 0.4
"""Share of what was not foreseen (in logarithms, at most so much) that is put down to how fast the machine is now."""
FIRST_SLOPE = 0.1
"""What a further token is taken to add to a step as long as that size was not seen, in shares of a step of one each."""
AHEAD = 2
"""So many sizes above the largest that was seen may be tried next: a large one that nobody knows may be very dear."""
COMPANY = 16
"""Above so many answers, their number is told apart in powers of two only."""


class StepCost:
    """Seconds of a step by how many answers there are and how many tokens are drafted, both as logarithms.

    A machine's speed drifts, and a step seen seldom would keep the speed of its day: so what is kept of a size is
    relative to the machine's present speed, of which each observation tells, too. A size that some number of answers
    has not seen yet is taken to cost what a step of as many rows of logits did for another number.
    """

    def __init__(self) -> None:
        self._speed = 0.0
        self._kinds: dict[int, _Kind] = {}
        self._rows: dict[int, deque[float]] = {}

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        """A step took so long. Numbers of drafted tokens that are none of SIZES say nothing."""
        if num_drafted not in SIZES or seconds <= 0:
            return
        kind = self._kinds.setdefault(_kind(num_answers), _Kind(num_answers, self._rows))
        at = SIZES.index(num_drafted)
        seen = math.log(seconds)
        if kind.seen[at]:
            surprise = seen - self._speed - median_low(kind.seen[at])
            self._speed += PRESENT * min(max(surprise, -MOST_SURPRISE), MOST_SURPRISE)
        self._speed += kind.add(at, seen - self._speed)
        self._rows.setdefault(num_answers + num_drafted, deque(maxlen=KEPT)).append(seen - self._speed)

    def ratios(self, num_answers: int) -> list[float]:
        """How many times as long as one without drafts a step of each size takes, as far as they may be tried by now.

        None before one without drafts was seen.
        """
        kind = self._kinds.get(_kind(num_answers))
        return [] if kind is None else kind.ratios

    def ratio(self, num_answers: int, seconds: float) -> float:
        """How many times as long as one without drafts a step took; 1 before such a one was seen."""
        kind = self._kinds.get(_kind(num_answers))
        if kind is None or not kind.ratios:
            return 1.0
        return math.exp(math.log(seconds) - self._speed - median_low(kind.seen[0]))

    def alone(self, num_answers: int) -> float | None:
        """Seconds of a step without drafts, as `scaled` has them; None before one was seen."""
        kind = self._kinds.get(_kind(num_answers))
        return math.exp(median_low(kind.seen[0])) if kind is not None and kind.seen[0] else None

    def scaled(self, seconds: float) -> float:
        """Seconds of now as they would be at the speed that costs are kept at."""
        return seconds * math.exp(-self._speed)

    def least_seen(self, num_answers: int, most: int, most_ratio: float) -> int:
        """The number of drafted tokens, of at most so many, that was tried least often; 0: all are too dear.

        One that was tried only a few times need not be as dear as it seems: it is taken for as cheap by the token as
        the cheapest other size.
        """
        kind = self._kinds[_kind(num_answers)]

        def may_be(at: int) -> bool:
            num_seen = len(self._rows.get(num_answers + SIZES[at], ()))
            hopeful = 1 + kind.slope * SIZES[at] if num_seen < FEW else math.inf
            return SIZES[at] <= most and min(kind.ratios[at], hopeful) <= most_ratio

        return SIZES[min(filter(may_be, range(1, len(kind.ratios))), key=kind.counts.__getitem__, default=0)]


class _Kind:
    """What is known of steps with so many answers, by the index of SIZES; of others', by rows."""

    def __init__(self, num_answers: int, rows: Mapping[int, Row[float]]) -> None:
        self._num_answers = num_answers
        self._rows = rows
        self.first_slope = self.slope = FIRST_SLOPE / num_answers
        self.seen: list[deque[float]] = [deque(maxlen=KEPT) for _ in SIZES]
        self.counts = [0] * len(SIZES)
        self._usual, self._level = -1, 0.0
        self.ratios: list[float] = []

    def add(self, at: int, value: float) -> float:
        """A size was seen; what of that is to be put down to the machine's speed."""
        self.seen[at].append(value)
        self.counts[at] += 1
        if drift := self._drift(at):
            self.seen[at] = deque((value - drift for value in self.seen[at]), maxlen=KEPT)
        self.ratios = self._ratios() if self.seen[0] else []
        return drift

    def _drift(self, at: int) -> float:
        """How far the size that is seen most often has come from where it was first known to be; 0 for others.

        Steps that are disturbed are too long, never too short: in the mean the machine would seem to become slower and
        slower, and those sizes dearer that nobody sees.
        """
        if self.counts[at] < max(KEPT, *self.counts):
            return 0.0
        now = median_low(self.seen[at])
        if at != self._usual:
            self._usual, self._level = at, now
        return now - self._level

    def _ratios(self) -> list[float]:
        """Sizes that nobody saw are taken to cost what the next smaller one does, and little for each token more.

        That is to be hopeful, so that they are tried where that matters; then they are seen.
        """
        alone = median_low(self.seen[0])
        ratios, last, last_size, slope = [1.0], 1.0, 0, self.first_slope
        end = 1 + AHEAD
        for size, seen in zip(SIZES[1:], self.seen[1:], strict=True):
            if known := seen or self._rows.get(self._num_answers + size):
                last, last_size = max(math.exp(median_low(known) - alone), 1.0), size
                slope = min(slope, (last - 1) / size)
                end = len(ratios) + 1 + AHEAD
            ratios.append(last + slope * (size - last_size))
        self.slope = slope
        return ratios[:end]


def ratio_of(ratios: Row[float], num_drafted: int) -> float:
    """The same as `StepCost.ratios`, of any number of drafted tokens: between SIZES in between, infinite beyond."""
    at = bisect_left(SIZES, num_drafted)
    if at >= len(ratios):
        return math.inf
    if SIZES[at] == num_drafted:
        return ratios[at]
    share = (num_drafted - SIZES[at - 1]) / (SIZES[at] - SIZES[at - 1])
    return ratios[at - 1] + share * (ratios[at] - ratios[at - 1])


def _kind(num_answers: int) -> int:
    return num_answers if num_answers <= COMPANY else COMPANY + num_answers.bit_length()
