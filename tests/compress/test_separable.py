"""Convolutions taken apart: exact at full rank, as far off as the singular values left out, fitted to inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui.compress.calibration import InputStatistics
from miaotui.compress.separable import Separated, decompose, largest_rank, multiply_adds, rank_for
from miaotui.errors import ConfigError
from native.oracles import windows

SHAPES = st.sampled_from([(20, 16, 3), (20, 16, 7), (4, 16, 7), (12, 16, 3, 3), (12, 16, 1, 5)])
SEEDS = st.integers(0, 2**32 - 1)


def random_weight(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def full_rank(shape: tuple[int, ...]) -> int:
    return int(min(shape[0], np.prod(shape[2:])))


def singular_values(weight: np.ndarray) -> np.ndarray:
    """Of each channel, largest first [in, …]."""
    channels = weight.reshape(*weight.shape[:2], -1).transpose(1, 0, 2).astype(np.float64)
    return np.linalg.svd(channels, compute_uv=False)


def inputs(tokens: int, taps: int, channels: int, seed: int = 0) -> np.ndarray:
    """Windows [tokens, taps * channels] of rows whose neighbours and channels resemble one another."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((tokens + 1, channels)) @ rng.standard_normal((channels, channels))
    rows = rows[1:] + 0.7 * rows[:-1]
    return windows(rows.astype(np.float32), 1, taps, 0).reshape(tokens, -1).astype(np.float64)


def statistics_of(x: np.ndarray, *, hessian: bool = True) -> InputStatistics:
    moments = (x**2).mean(0).astype(np.float32)
    whole = (x.T @ x / len(x)).astype(np.float32)
    return InputStatistics(len(x), moments, hessian=(lambda: whole) if hessian else None)


def outputs(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of windows whose columns are [taps, in]."""
    return x @ weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1).reshape(len(weight), -1).T


@settings(max_examples=20)
@given(shape=SHAPES, seed=SEEDS)
def test_full_rank_is_exact(shape: tuple[int, ...], seed: int) -> None:
    weight = random_weight(shape, seed)
    parts = decompose(weight, full_rank(shape))
    np.testing.assert_allclose(parts.weight(), weight, atol=1e-5)
    assert parts.error < 1e-6


@settings(max_examples=20)
@given(shape=SHAPES, seed=SEEDS, rank=st.integers(1, 3))
def test_the_error_is_that_of_the_singular_values_left_out(shape: tuple[int, ...], seed: int, rank: int) -> None:
    weight = random_weight(shape, seed)
    parts = decompose(weight, rank)
    values = singular_values(weight)
    want = np.sqrt((values[:, rank:] ** 2).sum() / (values**2).sum())
    assert parts.error == pytest.approx(want, rel=1e-6, abs=1e-7)
    left = np.linalg.norm(parts.weight().astype(np.float64) - weight) / np.linalg.norm(weight)
    assert left == pytest.approx(want, rel=1e-4, abs=1e-6)
    assert parts.depthwise.shape == (rank, *shape[2:], shape[1])
    assert parts.pointwise.shape == (shape[0], rank * shape[1])


def test_depthwise_then_pointwise_computes_the_convolution_in_one_axis_and_in_two() -> None:
    for shape, line in (((10, 16, 5), 0), ((10, 16, 3, 3), 6)):
        weight, x = random_weight(shape, 1), random_weight((24, 16), 2)
        parts: Separated = decompose(weight, full_rank(shape))
        taps = (1, *shape[2:]) if len(shape) == 3 else shape[2:]
        seen = windows(x, *taps, line)  # [rows, height, width, in]
        whole = np.einsum("nhwc,ochw->no", seen, weight.reshape(10, 16, *taps))
        columns = np.einsum("nhwc,rhwc->nrc", seen, parts.depthwise.reshape(-1, *taps, 16)).reshape(24, -1)
        np.testing.assert_allclose(columns @ parts.pointwise.T, whole, atol=1e-4)


def test_statistics_lower_the_error_of_the_outputs() -> None:
    weight, x = random_weight((20, 16, 5), 3), inputs(3000, 5, 16)
    want = outputs(weight, x)

    def error(parts: Separated) -> float:
        return float(np.linalg.norm(outputs(parts.weight(), x) - want) / np.linalg.norm(want))

    plain, moments, fitted = (
        decompose(weight, 1, s) for s in (None, statistics_of(x, hessian=False), statistics_of(x))
    )
    assert error(fitted) < 0.85 * error(plain)
    assert error(moments) < 1.05 * error(plain)
    assert fitted.error == pytest.approx(error(fitted), rel=1e-3)
    exact = decompose(weight, 5, statistics_of(x))
    assert error(exact) < 1e-3


def test_a_channel_that_is_never_used_does_no_harm() -> None:
    x = inputs(500, 3, 16)
    x[:, 5::16] = 0
    for statistics in (statistics_of(x), statistics_of(x, hessian=False)):
        parts = decompose(random_weight((20, 16, 3)), 1, statistics)
        assert np.isfinite(parts.depthwise).all()
        assert np.isfinite(parts.pointwise).all()
    empty = decompose(np.zeros((20, 16, 3), np.float32), 1)
    assert empty.error == 0
    assert not empty.weight().any()


def test_multiply_adds_are_those_of_the_loops() -> None:
    assert multiply_adds((256, 384, 5)) == 256 * 384 * 5
    assert multiply_adds((256, 384, 5), 2) == 384 * 2 * 5 + 256 * 384 * 2
    assert multiply_adds((256, 64, 3, 3), 1) == 64 * 9 + 256 * 64


@given(out=st.integers(1, 300), taps=st.integers(1, 9))
def test_the_largest_rank_is_the_last_one_that_is_cheaper(out: int, taps: int) -> None:
    shape = (out, 16, taps)
    rank = largest_rank(shape)
    assert rank < min(out, taps) or rank == 0
    assert rank == 0 or multiply_adds(shape, rank) < multiply_adds(shape)
    assert multiply_adds(shape, rank + 1) >= multiply_adds(shape)


def test_the_least_rank_within_an_error_is_chosen() -> None:
    weight = random_weight((20, 16, 7), 4)
    errors = [decompose(weight, rank).error for rank in range(1, 8)]
    assert errors == sorted(errors, reverse=True)
    assert rank_for(weight, errors[2] + 1e-9) == 3
    assert rank_for(weight, errors[2] - 1e-9) == 4
    assert rank_for(weight, 1e-9) == 0  # only the full rank is that good, and it is no cheaper


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_ranks_that_there_are_not_are_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match="has ranks 1 to 3"):
        decompose(random_weight((20, 16, 3)), rank)


def test_statistics_of_other_inputs_are_refused() -> None:
    with pytest.raises(ConfigError, match="80 columns, but the convolution sees 48"):
        decompose(random_weight((20, 16, 3)), 1, statistics_of(inputs(10, 5, 16)))
