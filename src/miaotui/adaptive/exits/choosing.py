"""Which exits to have, and how sure a text must be there: thresholds that keep a share of the whole depth's accuracy.

Every exit has the same threshold on its calibrated probability, so that there is one way from no early exit to all of
them. As CALM does (Schuster et al., arXiv:2207.07061, section 4), thresholds are tested along it, surest first, until
one may break the floor (Learn then Test, arXiv:2110.01052); the test is the cascade's, exact and paired. Which exits
there are is decided before, on other rows (as in Pareto testing, arXiv:2210.07913), or it would have to be paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from miaotui.adaptive.cascade.calibrating import least_cases, num_safe
from miaotui.adaptive.exits.seen import Seen
from miaotui.errors import InvalidRequestError

THRESHOLDS = (*(1.0 - 1e-4 * 1.1**number for number in range(97)), 0.0)
"""Probabilities, surest first; fixed, for thresholds taken from the data would void what is stated of them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """threshold: None: nothing leaves early, and `why` says why. The figures are those of the calibration rows.

    leaving: share of texts that leave by each exit, the whole depth last. mean_layers: of texts. work: layers times
    tokens, asking included, in those of the whole depth.
    """

    threshold: float | None
    why: str
    floor: float
    confidence: float
    num_rows: int
    whole_accuracy: float
    early_accuracy: float
    depths: tuple[int, ...]
    leaving: tuple[float, ...]
    mean_layers: float
    work: float

    def facts(self) -> dict[str, Any]:
        """All of it by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_aims(floor: float, confidence: float) -> None:
    """Raises InvalidRequestError for floors and confidences that are no shares."""
    if not 0.0 < floor <= 1.0 or not 0.5 <= confidence < 1.0:
        raise InvalidRequestError(
            f"floor must be above 0 and at most 1, confidence from 0.5 to below 1, not {floor:g} and {confidence:g}."
        )


def calibrate(seen: Seen, floor: float, confidence: float) -> Calibration:
    """The lowest threshold at which accuracy is at least `floor` times the whole depth's, with that confidence.

    It is None where none is safe, or where it would save nothing. Raises InvalidRequestError as `check_aims`.
    """
    check_aims(floor, confidence)
    pairs = (seen.lost_and_won(threshold) for threshold in THRESHOLDS)
    num_right = int(seen.whole_right.sum())
    safe = num_safe(pairs, num_right, len(seen), floor, 1.0 - confidence) if len(seen.depths) > 1 else 0
    threshold = THRESHOLDS[safe - 1] if safe else None
    why = "" if safe else _why_none(seen, floor, confidence)
    work = float(seen.work(threshold).sum() / seen.work(None).sum())
    if threshold is not None and work >= 1.0:
        why = f"the safe threshold would take {work:.2f} times the whole depth's work"
        threshold, work = None, 1.0
    left = seen.leaving(threshold)
    leaving = tuple(float((left == exit).mean()) for exit in range(len(seen.depths)))
    return Calibration(
        threshold,
        why or f"accuracy is at least {floor:g} times the whole depth's, with a confidence of {confidence:.4g}",
        floor,
        confidence,
        len(seen),
        float(seen.whole_right.mean()),
        float(seen.early_right(threshold).mean()),
        seen.depths,
        leaving,
        sum(share * depth for share, depth in zip(leaving, seen.depths, strict=True)),
        work,
    )


def choose_exits(seen: Seen, floor: float) -> list[int]:
    """Numbers of the exits worth having: one is left out as long as that makes the rest cheaper.

    Each set is judged at the lowest threshold that keeps what is halfway between the floor and all of the accuracy:
    what calibration on other rows will allow lies about there.
    """
    kept = list(range(len(seen.depths) - 1))
    best = _cost(seen.only(kept), floor)
    while kept:
        tried = [(_cost(seen.only([one for one in kept if one != exit]), floor), exit) for exit in kept]
        cost, exit = min(tried)
        if cost >= best:
            return kept
        kept.remove(exit)
        best = cost
    return kept


def _cost(seen: Seen, floor: float) -> float:
    """Work at the lowest threshold before the accuracy falls, in that of the whole depth."""
    whole, wanted = float(seen.work(None).sum()), (1.0 + floor) / 2 * float(seen.whole_right.mean())
    found = 1.0
    for threshold in THRESHOLDS:
        if float(seen.early_right(threshold).mean()) < wanted:
            break
        found = float(seen.work(threshold).sum()) / whole
    return found


def _why_none(seen: Seen, floor: float, confidence: float) -> str:
    if len(seen.depths) == 1:
        return "no exit before the last layer is worth asking: early ones are right too seldom where they are sure"
    least = least_cases(floor, confidence, float(seen.whole_right.mean()))
    if least is None:
        return "no threshold is safe: no number of rows can show that all of the accuracy is kept; lower the floor"
    if len(seen) < least:
        return f"no threshold is safe: {len(seen)} rows show too little, at least {least} are needed for this floor"
    return "no threshold is safe: the surest early labels are wrong too often; lower the floor, or give more rows"
