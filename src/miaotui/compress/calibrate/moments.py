"""Sums over the rows that a matrix is fed, added up step by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

STRIP_COLUMNS = 512
"""Rows of a Hessian that are computed in one product."""


class MomentSums:
    """Of x², of |x|, and the extremes, for each column. Sums of a step are float32, those of all steps float64."""

    def __init__(self, columns: int) -> None:
        self._rows = 0
        self._squares: Doubles = np.zeros(columns)
        self._sizes: Doubles = np.zeros(columns)
        self._lows: Floats = np.full(columns, np.inf, np.float32)
        self._highs: Floats = np.full(columns, -np.inf, np.float32)

    def add(self, x: Floats) -> None:
        """Rows [rows, columns]."""
        self._rows += len(x)
        self._squares += np.einsum("ij,ij->j", x, x)
        self._sizes += np.abs(x).sum(axis=0)
        np.minimum(self._lows, x.min(axis=0), out=self._lows)
        np.maximum(self._highs, x.max(axis=0), out=self._highs)

    def statistics(self) -> InputStatistics:
        """Means over all rows."""
        return InputStatistics(
            self._rows,
            (self._squares / self._rows).astype(np.float32),
            (self._sizes / self._rows).astype(np.float32),
            lows=self._lows,
            highs=self._highs,
        )


class HessianSum:
    """Of x xᵀ. Each step adds one float32 product to a float32 sum: n steps cost about n x 2⁻²⁴ of its size at most.

    Only the upper triangle is computed, in strips; `result` mirrors it in place.
    """

    def __init__(self, columns: int) -> None:
        self._rows = 0
        self._sum: Floats = np.zeros((columns, columns), np.float32)

    def add(self, x: Floats) -> None:
        """Rows [rows, columns]."""
        self._rows += len(x)
        for start in range(0, x.shape[1], STRIP_COLUMNS):
            end = start + STRIP_COLUMNS
            self._sum[start:end, start:] += x[:, start:end].T @ x[:, start:]

    def result(self) -> Floats:
        """The mean [columns, columns], read-only; nothing can be added afterwards."""
        total = self._sum
        for start in range(0, len(total), STRIP_COLUMNS):
            end = start + STRIP_COLUMNS
            total[start:end, start:] /= np.float32(self._rows)
            total[end:, start:end] = total[start:end, end:].T
            square = total[start:end, start:end]
            square[:] = np.triu(square) + np.triu(square, 1).T
        total.flags.writeable = False
        return total


class InfluenceSum:
    """Of the cosine of the rows before and after a layer."""

    def __init__(self) -> None:
        self._rows = 0
        self._cosines = 0.0

    def add(self, before: Floats, after: Floats) -> None:
        """Rows [rows, columns]; a row of zeros has cosine 0."""
        self._rows += len(before)
        products = np.einsum("ij,ij->i", before, after, dtype=np.float64)
        squares = [np.einsum("ij,ij->i", x, x, dtype=np.float64) for x in (before, after)]
        self._cosines += float((products / np.sqrt(np.maximum(squares[0] * squares[1], 1e-60))).sum())

    def influence(self) -> float:
        """1 - mean cosine."""
        return 1.0 - self._cosines / self._rows
