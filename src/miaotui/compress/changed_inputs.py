"""What the statistics of a matrix's inputs become when a transform changes these inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration, InputStatistics

Floats = NDArray[np.float32]


def scaled(statistics: InputStatistics, factors: Floats) -> InputStatistics:
    """Of inputs that are multiplied by `factors` [columns]."""
    hessian = statistics.hessian
    return InputStatistics(
        statistics.tokens,
        statistics.moments * np.square(factors),
        None if statistics.means is None else statistics.means * np.abs(factors),
        None if hessian is None else lambda: hessian() * factors[:, None] * factors,
    )


def turned(statistics: InputStatistics, turn: Callable[[Floats], Floats]) -> InputStatistics:
    """Of inputs x that become `turn(x)`, an orthogonal map of the last axis.

    Without a Hessian, the inputs are taken to be uncorrelated.
    """
    hessian = statistics.hessian
    if hessian is None:
        columns = len(statistics.moments)
        moments = statistics.moments @ np.square(turn(np.eye(columns, dtype=np.float32)))
        return InputStatistics(statistics.tokens, moments)

    def of_turned() -> Floats:
        return turn(np.ascontiguousarray(turn(hessian()).T))

    return InputStatistics(statistics.tokens, np.ascontiguousarray(of_turned().diagonal()), None, of_turned)


def with_inputs(
    calibration: Calibration, inputs: Mapping[str, InputStatistics], *, without: Collection[str] = ()
) -> Calibration:
    """The same pass over text, with other statistics for some matrices, and none for those `without`."""
    kept = {name: known for name, known in calibration.inputs.items() if name not in without}
    return replace(calibration, inputs={**kept, **inputs})
