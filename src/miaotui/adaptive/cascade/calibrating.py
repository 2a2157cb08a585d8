"""Choosing a gate's threshold so that a cascade keeps a share of the large model's accuracy, with stated confidence.

Method: Learn then Test (Angelopoulos et al., arXiv:2110.01052) with fixed-sequence testing: from the surest
threshold downwards, each is tested with the whole error allowed, and the first that fails ends the search. So
the probability that the chosen one breaks the floor is at most 1 - confidence, for rows drawn as those seen were. The
test is `paired_test`: its margin, (1 - floor) of the large model's accuracy, is bounded from below first. Several
signals share the error allowed (Bonferroni), and the one with the cheapest cascade is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as Row
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from miaotui.adaptive.cascade.binomial import lower_share
from miaotui.adaptive.cascade.case import Case
from miaotui.adaptive.cascade.paired_test import p_value
from miaotui.adaptive.cascade.signals import Signal
from miaotui.errors import InvalidRequestError

SPARE = 0.05
"""Share of the error allowed that goes to the large model's accuracy, and as much to what `paired_test` may miss."""
MAX_CASES = 100_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """A signal's threshold and what is known of it; None: always ask the large model, and `why` says why.

    small_accuracy, large_accuracy: on the calibration cases, as all other figures here. kept_share: of answers that the
    small model's sufficed for. cost_ratio: seconds of the cascade in those of the large model alone.
    """

    signal: str
    threshold: float | None
    why: str
    floor: float
    confidence: float
    num_cases: int
    small_accuracy: float
    large_accuracy: float
    cascade_accuracy: float
    kept_share: float
    cost_ratio: float

    def facts(self) -> dict[str, Any]:
        """All of it by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def calibrate(cases: Row[Case], signals: Row[Signal], floor: float, confidence: float) -> Calibration:
    """The cheapest of the signals' gates that are safe: accuracy at least `floor` times the large model's.

    Raises InvalidRequestError for no cases or signals, and for floors and confidences that are no shares.
    """
    if not cases or not signals or len(cases) > MAX_CASES:
        raise InvalidRequestError(f"calibrating takes 1 to {MAX_CASES} labelled rows and a signal at least.")
    if not 0.0 < floor <= 1.0 or not 0.5 <= confidence < 1.0:
        raise InvalidRequestError(
            f"floor must be above 0 and at most 1, confidence from 0.5 to below 1, not {floor:g} and {confidence:g}."
        )
    error = (1.0 - confidence) / len(signals)
    found = [_calibrated(cases, signal, floor, confidence, error) for signal in signals]
    return min(found, key=lambda one: (one.threshold is None, one.cost_ratio))


def least_cases(floor: float, confidence: float, accuracy: float) -> int | None:
    """Cases without which not even a gate that never errs is safe, about; None where none suffice."""
    margin = (1.0 - floor) * accuracy
    return math.ceil(math.log((1.0 - confidence) * (1 - 2 * SPARE)) / math.log1p(-margin)) if 0 < margin < 1 else None


def safe_thresholds(cases: Row[Case], signal: Signal, floor: float, error: float) -> list[float]:
    """Those that keep the floor but for that probability, all of them at once; surest first."""
    values = np.array([case.values[signal.name] for case in cases])
    lost = np.array([case.large_right and not case.small_right for case in cases])
    won = np.array([case.small_right and not case.large_right for case in cases])
    num_right = sum(case.large_right for case in cases)
    kept = (values >= threshold for threshold in signal.thresholds)
    numbers = ((int(lost[some].sum()), int(won[some].sum())) for some in kept)
    return list(signal.thresholds[: num_safe(numbers, num_right, len(cases), floor, error)])


def num_safe(numbers: Iterable[tuple[int, int]], num_right: int, count: int, floor: float, error: float) -> int:
    """How many ways to answer, tested one after the other, keep the floor but for that probability, all together.

    numbers: of questions that the reference alone has right, and that this way alone has, for each way, in an order
    that looks at no data; they are asked for until one fails. num_right: of `count` questions that the reference has.
    """
    margin = (1.0 - floor) * lower_share(num_right, count, SPARE * error)
    safe, tested = 0, (-1, -1)
    for pair in numbers:
        if pair != tested and p_value(*pair, count, margin, SPARE * error) > (1.0 - SPARE) * error:
            break
        safe, tested = safe + 1, pair
    return safe


def _calibrated(cases: Row[Case], signal: Signal, floor: float, confidence: float, error: float) -> Calibration:
    safe = safe_thresholds(cases, signal, floor, error)
    threshold, why = (safe[-1], "") if safe else (None, _why_none(cases, floor, 1.0 - error))
    kept = [threshold is not None and case.values[signal.name] >= threshold for case in cases]
    large_s = fmean(case.large_s for case in cases)
    cost_s = fmean(
        case.kept_s(signal.name) + (0.0 if own else case.large_s) for own, case in zip(kept, cases, strict=True)
    )
    if threshold is not None and cost_s >= large_s:
        threshold, kept = None, [False] * len(cases)
        why = f"the safe gate would cost {cost_s / large_s:.2f} times what the large model alone does"
    right = [case.small_right if own else case.large_right for own, case in zip(kept, cases, strict=True)]
    return Calibration(
        signal.name,
        threshold,
        why or f"accuracy is at least {floor:g} times the large model's, with a confidence of {confidence:.4g}",
        floor,
        confidence,
        len(cases),
        fmean(case.small_right for case in cases),
        fmean(case.large_right for case in cases),
        fmean(right),
        fmean(kept),
        cost_s / large_s if threshold is not None else 1.0,
    )


def _why_none(cases: Row[Case], floor: float, confidence: float) -> str:
    least = least_cases(floor, confidence, fmean(case.large_right for case in cases))
    if least is None:
        return (
            "no threshold is safe: no number of rows can show that a cascade keeps all of the accuracy; lower the floor"
        )
    if len(cases) < least:
        return f"no threshold is safe: {len(cases)} rows show too little, at least {least} are needed for this floor"
    return (
        "no threshold is safe: the small model's surest answers are wrong too often; lower the floor, or give more rows"
    )
