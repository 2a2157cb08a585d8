"""The two factors of low rank that lose least of a matrix's outputs, given what it is fed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.errors import ConfigError

Floats = NDArray[np.float32]

_LEAST_DAMPING = 1e-6
"""Added to a Hessian's diagonal, as a share of its mean, where inputs never leave a subspace."""


@dataclass(frozen=True, slots=True)
class Factors:
    """left [rows, rank] with orthonormal columns, right [rank, columns]; their product stands for a matrix W.

    energies: mean square of W's outputs along each direction [min(rows, columns)], descending; those behind the rank
    are lost. The first `rank` are also the moments of what `left` is fed.
    """

    left: Floats
    right: Floats
    energies: Floats


def factorize(matrix: Floats, statistics: InputStatistics | None, rank: int) -> Factors:
    """The factors with the least mean of |W x - left right x|² over the inputs x (SVD-LLM, arXiv:2403.07378, 3.1).

    With H the mean of x xᵀ, or its diagonal, the best left factor are the first eigenvectors of W H Wᵀ, and the right
    one is leftᵀ W; nothing has to be inverted. Without statistics it is the plain SVD. A tall matrix [rows, columns],
    rows > columns, goes through the smaller Lᵀ Wᵀ W L with H = L Lᵀ.
    """
    rows, columns = matrix.shape
    if not 1 <= rank <= min(rows, columns):
        raise ConfigError(f"rank {rank} does not fit a matrix of {rows} x {columns}; choose 1 to {min(rows, columns)}.")
    wide = rows <= columns
    outputs = matrix if statistics is None else weighted(matrix, statistics) if wide else _rooted(matrix, statistics)
    square = outputs @ (matrix if wide and statistics is not None else outputs).T if wide else outputs.T @ outputs
    energies, vectors = np.linalg.eigh(((square + square.T) / 2).astype(np.float64))
    energies, vectors = np.maximum(energies[::-1], 0), vectors[:, ::-1][:, :rank]
    left = vectors.astype(np.float32) if wide else _orthonormal(outputs @ vectors.astype(np.float32))
    return Factors(left, left.T @ matrix, energies.astype(np.float32))


def weighted(matrix: Floats, statistics: InputStatistics) -> Floats:
    """W H: a matrix times the mean of its inputs' outer products, or their diagonal where that is all there is."""
    product: Floats = matrix @ statistics.hessian() if statistics.hessian is not None else matrix * statistics.moments
    return product


def _rooted(matrix: Floats, statistics: InputStatistics) -> Floats:
    """W L with L Lᵀ = H."""
    if statistics.hessian is None:
        product: Floats = matrix * np.sqrt(statistics.moments)
        return product
    hessian = statistics.hessian().astype(np.float64)
    damping = _LEAST_DAMPING * (float(np.trace(hessian)) / len(hessian) or 1.0)
    while True:
        try:
            root = np.linalg.cholesky(hessian + damping * np.eye(len(hessian)))
        except np.linalg.LinAlgError:
            damping *= 10
        else:
            rooted: Floats = matrix @ root.astype(np.float32)
            return rooted


def _orthonormal(directions: Floats) -> Floats:
    """Columns that are orthogonal already, to unit length; a direction without energy stays 0."""
    length = np.sqrt(np.square(directions).sum(axis=0))
    unit: Floats = np.divide(directions, length, out=np.zeros_like(directions), where=length > 0)
    return unit
