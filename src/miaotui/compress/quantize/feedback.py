"""The layer's error e H eᵀ taken apart, column by column, so that later ones can make good what earlier ones lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Feedback:
    """H = (1 + U) D (1 + U)ᵀ: U [columns, columns] strictly upper, D [columns] > 0.

    The error of a row e is Σ_k D_k (e_k + Σ_{j<k} e_j U_jk)², so column k is to be rounded after Σ_{j<k} e_j U_jk was
    added to it (Chee et al., QuIP, arXiv:2307.13304, section 3; the same as GPTQ's sweep by their theorem 6).
    """

    upper: Floats
    costs: Floats


def factored(hessian: Floats) -> Feedback:
    """Of a symmetric positive definite matrix [n, n]. Raises ModelFileError for one that is not."""
    try:
        reverse = np.linalg.cholesky(hessian[::-1, ::-1])
    except np.linalg.LinAlgError as error:
        raise ModelFileError("a layer's Hessian is damaged; collect the calibration again.") from error
    upper = np.ascontiguousarray(reverse[::-1, ::-1])
    diagonal = upper.diagonal().copy()
    upper /= diagonal
    np.fill_diagonal(upper, 0)
    return Feedback(upper, np.square(diagonal))


def damped(hessian: Floats, damping: float) -> Floats:
    """H with its diagonal raised, and inputs that were never seen taken for rare ones.

    A sample of n tokens tells less of n columns' correlations than of their sizes, so correlations shrink: every
    column's own moment is raised by `damping` of itself, and by a thousandth of it of the mean.
    """
    if not np.isfinite(hessian).all() or (hessian.diagonal() < 0).any():
        raise ModelFileError("a layer's Hessian is damaged; collect the calibration again.")
    raised = hessian.astype(np.float32)
    own = raised.diagonal().copy()
    mean = float(own.mean()) or 1.0
    np.fill_diagonal(raised, own * np.float32(1 + damping) + np.float32(1e-3 * damping * mean))
    return raised
