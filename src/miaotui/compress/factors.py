"""The two factors of low rank that lose least of a matrix's outputs, given what it is fed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.errors import ConfigError, ModelFileError

Floats = NDArray[np.float32]

_DAMPINGS = tuple(10.0**power for power in range(-6, 1))
"""Added to a Hessian's diagonal, as shares of its mean: the first that suffices where inputs never leave a subspace."""
_EXTRA, _ROUNDS = 16, 8
"""Of subspace iteration: directions beside the wanted ones, and repetitions; 0.002 % of the energy is missed."""


@dataclass(frozen=True, slots=True)
class Factors:
    """left [rows, rank] with orthonormal columns, right [rank, columns]; their product stands for a matrix W.

    energies: mean square of W's outputs along each of left's columns [rank], descending: the moments of what `left` is
    fed. total: that of all of W's outputs; what is not in the energies is lost.
    """

    left: Floats
    right: Floats
    energies: Floats
    total: float


def factorize(matrix: Floats, statistics: InputStatistics | None, rank: int) -> Factors:
    """The factors with the least mean of |W x - left right x|² over the inputs x (SVD-LLM, arXiv:2403.07378, 3.1).

    With H the mean of x xᵀ, or its diagonal, the best left factor are the first eigenvectors of W H Wᵀ, and the right
    one is leftᵀ W; nothing has to be inverted. Without statistics it is the plain SVD. A tall matrix [rows, columns],
    rows > columns, goes through the smaller Lᵀ Wᵀ W L with H = L Lᵀ.
    """
    rows, columns = matrix.shape
    if not 1 <= rank <= min(rows, columns):
        raise ConfigError(f"rank {rank} does not fit a matrix of {rows} x {columns}; choose 1 to {min(rows, columns)}.")
    square, rooted = _gram(matrix, statistics)
    energies, vectors = _leading(square, rank)
    left = vectors if rooted is None else _orthonormal(rooted @ vectors)
    return Factors(left, left.T @ matrix, energies, float(np.trace(square, dtype=np.float64)))


def spectrum(matrix: Floats, statistics: InputStatistics | None) -> Floats:
    """Mean square of the outputs along every direction [min(rows, columns)], descending; see `Factors.energies`."""
    energies: Floats = np.maximum(np.linalg.eigvalsh(_gram(matrix, statistics)[0].astype(np.float64))[::-1], 0)
    return energies.astype(np.float32)


def _gram(matrix: Floats, statistics: InputStatistics | None) -> tuple[Floats, Floats | None]:
    """W H Wᵀ, or Lᵀ Wᵀ W L and W L where that is smaller; symmetric."""
    rooted = None
    if matrix.shape[0] <= matrix.shape[1]:
        square: Floats = (matrix if statistics is None else weighted(matrix, statistics)) @ matrix.T
    else:
        rooted = matrix if statistics is None else _rooted(matrix, statistics)
        square = rooted.T @ rooted
    symmetric: Floats = np.multiply(square + square.T, 0.5, dtype=np.float32)
    return symmetric, rooted


def _leading(square: Floats, rank: int) -> tuple[Floats, Floats]:
    """The largest eigenvalues of a symmetric matrix, and their vectors.

    Few of them by subspace iteration from a fixed start (Halko et al., arXiv:0909.4061, algorithm 4.4).
    """
    size = len(square)
    basis = np.eye(size, dtype=np.float32)
    if 4 * (rank + _EXTRA) < size:
        basis = np.random.default_rng(0).standard_normal((size, rank + _EXTRA), np.float32)
        for _ in range(_ROUNDS):
            basis = np.linalg.qr(square @ basis)[0]
    values, vectors = np.linalg.eigh((basis.T @ square @ basis).astype(np.float64))
    found: Floats = basis @ vectors[:, ::-1][:, :rank].astype(np.float32)
    return np.maximum(values[::-1][:rank], 0).astype(np.float32), found


def weighted(matrix: Floats, statistics: InputStatistics) -> Floats:
    """W H: a matrix times the mean of its inputs' outer products, or their diagonal where that is all there is."""
    product: Floats = matrix @ statistics.hessian() if statistics.hessian is not None else matrix * statistics.moments
    return product


def _rooted(matrix: Floats, statistics: InputStatistics) -> Floats:
    """W L with L Lᵀ = H. Raises ModelFileError where H is no mean of outer products."""
    if statistics.hessian is None:
        product: Floats = matrix * np.sqrt(statistics.moments)
        return product
    hessian = statistics.hessian().astype(np.float64)
    if not np.isfinite(hessian).all():
        raise ModelFileError("a Hessian of the calibration is not finite; calibrate this model again.")
    mean = float(np.trace(hessian)) / len(hessian) or 1.0
    for damping in _DAMPINGS:
        with contextlib.suppress(np.linalg.LinAlgError):
            root = np.linalg.cholesky(hessian + damping * mean * np.eye(len(hessian)))
            rooted: Floats = matrix @ root.astype(np.float32)
            return rooted
    raise ModelFileError("a Hessian of the calibration is damaged; calibrate this model again.")


def _orthonormal(directions: Floats) -> Floats:
    """Columns that are orthogonal already, to unit length; a direction without energy stays 0."""
    length = np.sqrt(np.square(directions).sum(axis=0))
    unit: Floats = np.divide(directions, length, out=np.zeros_like(directions), where=length > 0)
    return unit
