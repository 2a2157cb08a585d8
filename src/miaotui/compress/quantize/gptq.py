"""GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns still to come make good the error of those before them.

What differs from the paper. A group's scale (and minimum) is searched when the sweep reaches it, every candidate with
the feedback inside the group, since that is what decides which one is best; csrc/kernels/quantize.h does it. The sweep
may begin with the columns whose inputs are largest, as long as groups stay whole. Afterwards each group is visited
again with all others as they are now, and takes new codes, and scales near its own, where they lower the layer's error:
block coordinate descent on tr(E H Eᵀ), which never rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.compress.quantize import search
from miaotui.compress.quantize.blocks import GROUP, SUPER
from miaotui.compress.quantize.codes import SUPERS, Found, values_of
from miaotui.compress.quantize.feedback import Feedback, damped, factored
from miaotui.compress.quantize.method import Quantizer
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

FINE = (TensorType.Q6_K, TensorType.Q8_0)
DAMPING = 0.01
PASSES = 2
PANEL = 256
"""Columns whose feedback from all before is one product of matrices."""


def quantizer(kind: TensorType, columns: int, statistics: InputStatistics | None) -> Quantizer:
    """See `method.Method`. Without statistics of this matrix, and to 6 or 8 bits, which lose little, as `search` does.

    Raises ConfigError where the calibration has no Hessian, ModelFileError for a damaged one.
    """
    if statistics is None or kind in FINE:
        return search.quantizer(kind, columns, statistics)
    if statistics.hessian is None:
        raise ConfigError("gptq needs a calibration with Hessians; collect one with them, or choose search.")
    hessian = statistics.hessian()
    if hessian.shape != (columns, columns):
        raise ModelFileError(f"the calibration's Hessian is not {columns} x {columns}; calibrate this model again.")
    layer = Layer.prepared(kind, hessian)
    return partial(_packed, layer)


def _packed(layer: Layer, weights: Floats) -> NDArray[np.uint8]:
    return quantized(layer, weights).packed()


@dataclass(frozen=True, slots=True)
class Layer:
    """What all rows of a matrix share: the damped Hessian [columns, columns] and its factors, in the sweep's order.

    order: the sweep's columns, in terms of the matrix's.
    """

    kind: TensorType
    order: NDArray[np.intp]
    hessian: Floats
    feedback: Feedback
    inner: tuple[Inner, ...]

    @classmethod
    def prepared(cls, kind: TensorType, hessian: Floats, damping: float = DAMPING) -> Layer:
        """Damps, orders and factors a Hessian [columns, columns]."""
        raised = damped(hessian, damping)
        order = sweep_order(raised.diagonal(), SUPER if kind in SUPERS else GROUP)
        raised = np.ascontiguousarray(raised[np.ix_(order, order)])
        scale = np.float32(1 / raised.diagonal().mean())
        raised *= scale
        inner = tuple(Inner.of(raised[at : at + GROUP, at : at + GROUP]) for at in range(0, len(order), GROUP))
        return cls(kind, order, raised, factored(raised), inner)


@dataclass(frozen=True, slots=True)
class Inner:
    """A group's own block of the Hessian [32, 32], its inverse and its factors."""

    hessian: Floats
    inverse: Floats
    feedback: Feedback

    @classmethod
    def of(cls, block: Floats) -> Inner:
        """Of a positive definite block. Raises what `factored` does for another one."""
        feedback = factored(block)
        return cls(block, np.linalg.inv(block.astype(np.float64)).astype(np.float32), feedback)


def sweep_order(moments: Floats, block: int) -> NDArray[np.intp]:
    """Blocks of columns that share scales stay whole; those with the largest inputs come first."""
    blocks = moments.reshape(-1, block)
    first = np.argsort(-blocks.sum(axis=1), kind="stable")
    return (first[:, None] * block + np.arange(block)).reshape(-1)


class Sweep:
    """A matrix [rows, columns] on its way to codes, in the sweep's order; errors: weights less what codes stand for."""

    def __init__(self, layer: Layer, weights: Floats) -> None:
        self._layer = layer
        self._weights = np.ascontiguousarray(weights[:, layer.order])
        rows, columns = weights.shape
        self.errors = np.zeros_like(self._weights)
        self.codes = np.zeros((rows, columns), np.uint8)
        self.scales = np.zeros((rows, columns // GROUP), np.float32)
        self.minimums = np.zeros_like(self.scales)
        self.units = np.zeros((rows, columns // SUPER if layer.kind in SUPERS else 0, 2), np.float32)

    def run(self) -> None:
        """Every group once, in order."""
        columns = self._weights.shape[1]
        upper = self._layer.feedback.upper
        for start in range(0, columns, PANEL):
            stop = min(start + PANEL, columns)
            targets = self._weights[:, start:stop] + self.errors[:, :start] @ upper[:start, start:stop]
            if self.units.shape[1]:
                costs = self._layer.feedback.costs[start:stop]
                self.units[:, start // SUPER] = search.found(self._layer.kind, targets, costs).units[:, 0]
            for at in range(start, stop, GROUP):
                group = slice(at, at + GROUP)
                target = targets[:, at - start : at - start + GROUP] + self.errors[:, start:at] @ upper[start:at, group]
                self._take(at, target, upper[group, group], self._layer.feedback.costs[group], None)

    def refine(self) -> None:
        """Every group once more, given all the others; what does not lower a row's error is not taken."""
        columns = self._weights.shape[1]
        hessian = self._layer.hessian
        for start in range(0, columns, PANEL):
            stop = min(start + PANEL, columns)
            pull = self.errors @ hessian[:, start:stop]
            for at in range(start, stop, GROUP):
                group, inner = slice(at, at + GROUP), self._layer.inner[at // GROUP]
                before = self.errors[:, group].copy()
                others = pull[:, at - start : at - start + GROUP] - before @ inner.hessian
                shift = others @ inner.inverse
                target = self._weights[:, group] + shift
                self._take(at, target, inner.feedback.upper, inner.feedback.costs, before + shift)
                pull += (self.errors[:, group] - before) @ hessian[group, start:stop]

    def _take(self, at: int, target: Floats, upper: Floats, costs: Floats, present: Floats | None) -> None:
        """New codes for a group, in the rows where they cost less than errors to the target that are there now."""
        from miaotui import _native

        kind, group = self._layer.kind, slice(at, at + GROUP)
        units = np.ascontiguousarray(self.units[:, at // SUPER]) if self.units.shape[1] else None
        near = None
        if present is not None:
            near = np.stack([self.scales[:, at // GROUP], self.minimums[:, at // GROUP]], axis=1)
        upper, costs = np.ascontiguousarray(upper), np.ascontiguousarray(costs)
        codes, scales, minimums, _ = _native.quantize(int(kind), target, costs, False, upper, units, near)
        scale, minimum = (scales, minimums) if units is None else (scales * units[:, :1], minimums * units[:, 1:])
        weights = scale * values_of(kind, codes) + minimum
        better: slice | NDArray[np.bool_] = slice(None)
        if present is not None:
            whole = upper + np.eye(GROUP, dtype=np.float32)
            better = np.square((target - weights) @ whole) @ costs < np.square(present @ whole) @ costs
        self.errors[better, group] = (self._weights[:, group] - weights)[better]
        self.codes[better, group] = codes[better]
        self.scales[better, at // GROUP] = scales[better, 0]
        self.minimums[better, at // GROUP] = minimums[better, 0]

    def found(self) -> Found:
        """The codes in the matrix's own order."""
        back = np.argsort(self._layer.order)
        groups = self._layer.order.reshape(-1, GROUP)[:, 0].argsort()
        supers = self._layer.order.reshape(-1, SUPER)[:, 0].argsort() if self.units.shape[1] else slice(0)
        return Found(
            self._layer.kind,
            np.ascontiguousarray(self.codes[:, back]),
            self.scales[:, groups],
            self.minimums[:, groups],
            self.units[:, supers],
        )


def quantized(
    layer: Layer, weights: Floats, passes: int = PASSES, told: Callable[[float], None] | None = None
) -> Found:
    """Codes of weights [rows, columns]; `told` hears the error tr(E H Eᵀ) after the sweep and after every pass."""
    sweep = Sweep(layer, weights)
    sweep.run()
    for number in range(passes + 1):
        if told is not None:
            told(float(np.einsum("ij,ij->", sweep.errors @ layer.hessian, sweep.errors, dtype=np.float64)))
        if number < passes:
            sweep.refine()
    return sweep.found()
