"""Scales, minimums and codes by search: many are tried, each is fitted by least squares, the cheapest is kept.

An error in a column costs what the column's inputs are worth (the mean of x_j², the diagonal of the layer's Hessian,
as llama.cpp's importance matrix has it); without statistics all columns cost the same. Either is multiplied by
√(the row's mean square + w²), as llama.cpp does where it has an importance matrix: a fit by least squares shrinks what
it fits, large weights most, and that error adds up over a row's inputs, which go together; the diagonal knows nothing
of it. To Q4_0 that made a KL of 0.10 of 0.14 on Qwen2.5-Coder-0.5B, where least squares alone lost more than `rtn`, and
0.23 of 0.20 on Gemma-3-270M. csrc/kernels/quantize.h says how it searches.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.compress.quantize.codes import Found
from miaotui.compress.quantize.method import Quantizer
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

_LEAST_COST = 1e-6
"""Of the mean: inputs that were always 0 while calibrating may not be so later."""


def quantizer(kind: TensorType, columns: int, statistics: InputStatistics | None) -> Quantizer:
    """See `method.Method`; statistics may be missing. Raises ModelFileError where they are of other columns."""
    importance = None if statistics is None else importance_of(statistics.moments, columns)
    return partial(_packed, kind, importance)


def _packed(kind: TensorType, importance: Floats | None, weights: Floats) -> NDArray[np.uint8]:
    return found(kind, weights, importance, by_magnitude=True).packed()


def found(kind: TensorType, weights: Floats, importance: Floats | None, *, by_magnitude: bool = False) -> Found:
    """The cheapest codes of weights [rows, columns]; see `_native.quantize`."""
    from miaotui import _native

    return Found(kind, *_native.quantize(int(kind), np.ascontiguousarray(weights), importance, by_magnitude))


def importance_of(moments: Floats, columns: int) -> Floats | None:
    """The cost of an error in each column, 1 on average; None where nothing was seen."""
    if moments.shape != (columns,) or not np.isfinite(moments).all() or (moments < 0).any():
        raise ModelFileError(f"the calibration has no {columns} moments for this matrix; calibrate this model again.")
    mean = moments.mean(dtype=np.float64)
    if mean == 0:
        return None
    costs: Floats = np.maximum(moments / mean, _LEAST_COST).astype(np.float32)
    return costs
