"""Factors lose as little of a matrix's outputs as any of their rank can."""

from __future__ import annotations

import numpy as np
import pytest

from compress.sources import statistics
from miaotui.compress.calibration import InputStatistics
from miaotui.compress.factors import factorize, spectrum
from miaotui.errors import ConfigError, ModelFileError

RANK = 6
SHAPES = [(24, 40), (40, 24), (32, 32), (100, 160), (160, 100)]  # the last two by iteration


def lost(matrix: np.ndarray, stats: InputStatistics | None, product: np.ndarray) -> float:
    hessian = np.eye(matrix.shape[1]) if stats is None else np.diag(stats.moments)
    if stats is not None and stats.hessian is not None:
        hessian = stats.hessian()
    error = (matrix - product).astype(np.float64)
    return float(np.einsum("ij,jk,ik->", error, hessian, error))


def textbook(matrix: np.ndarray, stats: InputStatistics | None) -> np.ndarray:
    """Whiten, cut, colour back (SVD-LLM), with explicit inverses."""
    hessian = np.eye(matrix.shape[1]) if stats is None else np.diag(stats.moments)
    if stats is not None and stats.hessian is not None:
        hessian = stats.hessian()
    root = np.linalg.cholesky(hessian.astype(np.float64))
    u, s, v = np.linalg.svd(matrix @ root, full_matrices=False)
    return (u[:, :RANK] * s[:RANK]) @ v[:RANK] @ np.linalg.inv(root)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("known", ["nothing", "moments", "hessian"])
def test_no_factors_of_that_rank_are_nearer(shape: tuple[int, int], known: str) -> None:
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    stats = None if known == "nothing" else statistics(shape[1], 2, hessian=known == "hessian")
    found = factorize(matrix, stats, RANK)
    assert (found.left.shape, found.right.shape) == ((shape[0], RANK), (RANK, shape[1]))
    best = lost(matrix, stats, textbook(matrix, stats))
    assert lost(matrix, stats, found.left @ found.right) == pytest.approx(best, rel=1e-3)
    assert found.total - float(found.energies.sum()) == pytest.approx(best, rel=1e-3)
    np.testing.assert_allclose(spectrum(matrix, stats)[:RANK], found.energies, rtol=1e-3)
    assert spectrum(matrix, stats).sum() == pytest.approx(found.total, rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_are_the_moments_of_what_the_left_factor_is_fed(shape: tuple[int, int]) -> None:
    matrix, stats = np.random.default_rng(1).normal(size=shape).astype(np.float32), statistics(shape[1], 2)
    found = factorize(matrix, stats, RANK)
    assert stats.hessian is not None
    fed = np.einsum("ij,jk,ik->i", found.right, stats.hessian(), found.right)
    np.testing.assert_allclose(fed, found.energies, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_that_stay_in_a_subspace_are_no_trouble(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    inputs = (rng.normal(size=(50, 3)) @ rng.normal(size=(3, shape[1]))).astype(np.float32)
    square = inputs.T @ inputs / 50
    stats = InputStatistics(50, square.diagonal().copy(), None, lambda: square)
    matrix = rng.normal(size=shape).astype(np.float32)
    found = factorize(matrix, stats, 3)
    assert lost(matrix, stats, found.left @ found.right) < 1e-4 * lost(matrix, stats, 0 * matrix)
    zeros = factorize(np.zeros(shape, np.float32), stats, 3)
    assert np.isfinite(zeros.left).all()
    assert not (zeros.left @ zeros.right).any()


def test_a_rank_that_does_not_fit_is_refused() -> None:
    for rank in (0, 25):
        with pytest.raises(ConfigError, match="choose 1 to 24"):
            factorize(np.ones((24, 40), np.float32), None, rank)


@pytest.mark.parametrize("corner", [-1.0, 1e30])
def test_a_hessian_that_is_none_is_refused(corner: float) -> None:
    """As files from strangers may hold one."""
    hessian = np.eye(8, dtype=np.float32)
    hessian[0, 1] = hessian[1, 0] = corner
    hessian *= np.sign(corner)
    stats = InputStatistics(10, np.ones(8, np.float32), hessian=lambda: hessian)
    with pytest.raises(ModelFileError, match="damaged"):
        factorize(np.ones((24, 8), np.float32), stats, 2)
