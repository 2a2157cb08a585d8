"""What a gate does on rows that it was not calibrated on, with intervals."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.cascade.binomial import lower_share, upper_share
from miaotui.adaptive.cascade.case import Case
from miaotui.errors import InvalidRequestError

RESAMPLES, SEED = 2000, 0
LEVEL = 0.95
"""Of all intervals."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval: of shares exact, of means by resampling rows (percentiles; Efron 1979)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Shares of right answers, of answers kept from the small model, and seconds in those of the large model alone.

    kept_accuracy: the cascade's accuracy in the large model's.
    """

    num_cases: int
    small: Figure
    large: Figure
    cascade: Figure
    kept_accuracy: Figure
    kept_share: Figure
    cost_saved: Figure

    def facts(self) -> dict[str, Any]:
        """Each figure as [value, low, high]."""
        figures = {name: getattr(self, name) for name in self.__slots__ if name != "num_cases"}
        return {"num_cases": self.num_cases} | {
            name: [round(one.value, 4), round(one.low, 4), round(one.high, 4)] for name, one in figures.items()
        }


def evaluate(cases: Row[Case], signal: str, threshold: float | None) -> Outcome:
    """A gate on test rows; threshold None asks the large model always. Raises InvalidRequestError for no rows."""
    if not cases:
        raise InvalidRequestError("there are no rows to measure the gate on; give it more.")
    kept = np.array([threshold is not None and case.values[signal] >= threshold for case in cases])
    small, large = (np.array([getattr(case, name) for case in cases], float) for name in ("small_right", "large_right"))
    large_s = np.array([case.large_s for case in cases])
    own_s = np.array([0.0 if threshold is None else case.kept_s(signal) for case in cases])
    cascade = np.where(kept, small, large)
    costs = np.stack([own_s + np.where(kept, 0.0, large_s), large_s])
    means, spread = costs.mean(axis=1), resampled(costs)
    return Outcome(
        len(cases),
        share(small),
        share(large),
        share(cascade),
        share_kept(cascade, large) if kept.any() else Figure(1.0, 1.0, 1.0),
        share(kept),
        figure(1 - ratio(means[0], means[1]), 1 - ratio(spread[0], spread[1])),
    )


def share(hits: NDArray[Any]) -> Figure:
    """How many rows are hits, 0 or 1 each, by exact binomial bounds."""
    count, num_hits = len(hits), int(hits.sum())
    missed = (1.0 - LEVEL) / 2
    return Figure(num_hits / count, lower_share(num_hits, count, missed), upper_share(num_hits, count, missed))


def share_kept(other: NDArray[Any], reference: NDArray[Any]) -> Figure:
    """How often one way is right in how often the reference is, on the same rows, 0 or 1 each.

    1 - (lost - won) / right, each of the three bounded by itself and all together at the level (Bonferroni): wider than
    resampling gives, which says "no loss" for certain where none of some hundred rows happened to be lost.
    """
    count, missed = len(reference), (1.0 - LEVEL) / 6
    numbers = [int(flags.sum()) for flags in (reference > other, other > reference, reference > 0)]
    (lost, won, right), (least_lost, least_won, least_right), (most_lost, most_won, most_right) = (
        [number / count for number in numbers],
        [lower_share(number, count, missed) for number in numbers],
        [upper_share(number, count, missed) for number in numbers],
    )
    worst, best = most_lost - least_won, least_lost - most_won
    return Figure(
        float(ratio(right - lost + won, right)),
        max(1 - float(ratio(worst, least_right if worst > 0 else most_right)), 0.0),
        1 - float(ratio(best, least_right if best < 0 else most_right)),
    )


def resampled(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """[columns, RESAMPLES]: means over rows drawn with replacement."""
    rng, count = np.random.default_rng(SEED), columns.shape[1]
    means = np.empty((len(columns), RESAMPLES))
    for at in range(RESAMPLES):
        means[:, at] = columns[:, rng.integers(count, size=count)].mean(axis=1)
    return means


def ratio(some: Any, of: Any) -> Any:
    """A ratio; 1 where nothing is divided by nothing."""
    return np.where(np.asarray(of) > 0, some / np.where(np.asarray(of) > 0, of, 1.0), 1.0)


def figure(value: Any, spread: NDArray[np.float64]) -> Figure:
    """A figure with the middle of what other rows gave."""
    low, high = np.quantile(spread, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Figure(float(value), float(low), float(high))
