"""Which inputs of a matrix to leave out, and how the others make up for them.

With y = W x and the inputs' second moments H = mean(x xᵀ), leaving out the inputs S and changing the other columns for
the best costs tr(W_S (H⁻¹_SS)⁻¹ W_Sᵀ) (Optimal Brain Surgeon; whole structures at a time: ZipLM, arXiv:2302.04089,
section 3.1). The best other columns are least squares: W' = W H[:, kept] H[kept, kept]⁻¹. Where only the moments are
known, nothing is made up for, and leaving out costs Σ mean(x_j²) |W_j|² over S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

DAMPING = 0.01
"""Share of the mean second moment that is added to each, against what the calibration text never showed."""
STEPS = 64
"""Columns go in so many rounds at most; after each, what is left is weighed anew."""


def least_by_moments(weight: Floats, moments: Floats, group: int, keep: int) -> Indices:
    """The kept groups, ascending: those `keep` of `group` columns each that cost most to leave out."""
    cost = (np.square(weight, dtype=np.float64).sum(axis=0) * moments).reshape(-1, group).sum(axis=1)
    return np.sort(np.argsort(-cost, kind="stable")[:keep])


def least_by_hessian(weight: Floats, hessian: Floats, group: int, keep: int) -> Indices:
    """The same with the Hessian [columns, columns]: what the other columns can make up for goes first."""
    alive = np.ones(weight.shape[1] // group, np.bool_)
    removed = len(alive) - keep
    at_once = max(-(-removed // STEPS), 1)
    inverse = np.linalg.inv(_damped(hessian)).astype(np.float32)
    weight = weight.copy()
    while removed > 0:
        cost = np.where(alive, _costs(weight, inverse, alive), np.inf)
        gone = np.argsort(cost, kind="stable")[: min(at_once, removed)]
        out = _columns(gone, group)
        factor = np.linalg.solve(inverse[np.ix_(out, out)], inverse[out])
        weight -= weight[:, out] @ factor
        inverse -= inverse[:, out] @ factor  # what is gone has zeros from here on
        alive[gone] = False
        removed -= len(gone)
    return np.flatnonzero(alive)


def compensation(hessian: Floats, kept: Indices) -> Floats:
    """What to multiply a matrix with [columns, kept columns], so that it does best with the kept inputs."""
    damped = _damped(hessian)
    solved = np.linalg.solve(damped[np.ix_(kept, kept)], damped[kept])
    return np.ascontiguousarray(solved.T, np.float32)


def _costs(weight: Floats, inverse: Floats, alive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What each group costs [groups]; those that are gone cost nothing."""
    group = weight.shape[1] // len(alive)
    costs = np.zeros(len(alive))
    if group == 1:
        norms = np.square(weight).sum(axis=0, dtype=np.float64)
        np.divide(norms, inverse.diagonal(), out=costs, where=alive)
        return costs
    for at in np.flatnonzero(alive):
        part = slice(at * group, (at + 1) * group)
        costs[at] = float((weight[:, part] * np.linalg.solve(inverse[part, part], weight[:, part].T).T).sum())
    return costs


def _columns(groups: Indices, group: int) -> Indices:
    """The columns of some groups."""
    columns: Indices = (groups[:, None] * group + np.arange(group)).reshape(-1)
    return columns


def _damped(hessian: Floats) -> NDArray[np.float64]:
    damped = hessian.astype(np.float64)
    damped[np.diag_indices(len(damped))] += DAMPING * float(damped.diagonal().mean()) + 1e-12
    return damped
