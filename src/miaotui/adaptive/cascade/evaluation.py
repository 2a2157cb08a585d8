"""What a gate does on rows that it was not calibrated on, with intervals."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.cascade.case import Case
from miaotui.errors import InvalidRequestError

RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and its 95 % interval, from resampled rows (percentile bootstrap, Efron 1979)."""

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
    columns = np.stack(
        [small, large, np.where(kept, small, large), kept.astype(float), own_s + np.where(kept, 0.0, large_s), large_s]
    )
    means, spread = columns.mean(axis=1), resampled(columns)
    return Outcome(
        len(cases),
        figure(means[0], spread[0]),
        figure(means[1], spread[1]),
        figure(means[2], spread[2]),
        figure(ratio(means[2], means[1]), ratio(spread[2], spread[1])),
        figure(means[3], spread[3]),
        figure(1 - ratio(means[4], means[5]), 1 - ratio(spread[4], spread[5])),
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
    """A figure with the middle 95 % of what other rows gave."""
    low, high = np.quantile(spread, (0.025, 0.975))
    return Figure(float(value), float(low), float(high))
