"""The search costs no more than plain rounding, and nearly as little as trying everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from miaotui import _native
from miaotui.compress.calibration import InputStatistics
from miaotui.compress.quantize import rtn, search
from miaotui.compress.quantize.codes import values_of
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType

KINDS = [TensorType[name] for name in ("Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL")]
LEVELS = {TensorType.Q4_0: 16, TensorType.Q4_1: 16, TensorType.IQ4_NL: 16, TensorType.Q5_0: 32, TensorType.Q5_1: 32}


def some_weights(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_t(5, (rows, columns)).astype(np.float32), rng.gamma(0.6, size=columns).astype(np.float32) + 0.01


def cost(kind: TensorType, weights: np.ndarray, importance: np.ndarray, packed: np.ndarray) -> np.ndarray:
    back = _native.dequantize(int(kind), packed, weights.size).reshape(weights.shape)
    return np.square(back.astype(np.float64) - weights) @ importance.astype(np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_costs_more_than_plain_rounding(kind: TensorType) -> None:
    weights, importance = some_weights(64, 512, 1)
    quantize = search.quantizer(kind, 512, InputStatistics(100, importance))
    searched, plain = (
        cost(kind, weights, importance, packed) for packed in (quantize(weights), rtn.quantize(kind, weights))
    )
    assert (searched <= plain).all()
    assert searched.sum() < 0.95 * plain.sum()


def cheapest_symmetric(kind: TensorType, group: np.ndarray, importance: np.ndarray) -> float:
    """Of 8,000 scales of either sign, each as float16 with the nearest codes."""
    grid = np.sort(values_of(kind, np.arange(LEVELS[kind], dtype=np.uint8)))
    reach = np.abs(group).max() / np.abs(grid).max()
    scales = np.linspace(0.5 * reach, 1.8 * reach, 4000).astype(np.float16).astype(np.float32)
    best = np.inf
    for sign in (1, -1):
        x = group / (sign * scales[:, None])
        values = grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, x)]
        errors = group - sign * scales[:, None] * values
        best = min(best, float((np.square(errors) @ importance).min()))
    return best


def cheapest_affine(kind: TensorType, group: np.ndarray, importance: np.ndarray) -> float:
    """Of 20,000 pairs of scale and minimum, each fitted once more to the codes it gives."""
    most, low, high = LEVELS[kind] - 1, float(group.min()), float(group.max())
    best = np.inf
    for steps, offset in product(np.linspace(0.4 * most, 1.5 * most, 200), np.linspace(-1, 3, 100)):
        scale = (high - low) / steps
        minimum = low + (offset - 1) * scale
        for _ in range(2):
            values = np.clip(np.rint((group - minimum) / scale), 0, most)
            basis = np.stack([values, np.ones_like(values)], 1) * np.sqrt(importance)[:, None]
            (scale, minimum), *_ = np.linalg.lstsq(basis, group * np.sqrt(importance), rcond=None)
            if scale <= 0:
                break
            best = min(best, float(np.square(group - scale * values - minimum) @ importance))
    return best


@pytest.mark.parametrize("kind", [TensorType.Q4_0, TensorType.Q5_0, TensorType.IQ4_NL])
def test_symmetric_groups_are_close_to_the_optimum(kind: TensorType) -> None:
    weights, importance = some_weights(40, 32, 2)
    got = cost(kind, weights, importance, search.found(kind, weights, importance).packed())
    best = np.array([cheapest_symmetric(kind, row, importance) for row in weights])
    assert got.sum() <= 1.01 * best.sum(), (got / best).max()


@pytest.mark.parametrize("kind", [TensorType.Q4_1, TensorType.Q5_1])
def test_affine_groups_are_close_to_the_optimum(kind: TensorType) -> None:
    weights, importance = some_weights(3, 32, 3)
    got = cost(kind, weights, importance, search.found(kind, weights, importance).packed())
    best = np.array([cheapest_affine(kind, row, importance) for row in weights])
    assert got.sum() <= 1.05 * best.sum(), got / best


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_lie_on_a_grid_are_found_again(kind: TensorType) -> None:
    weights, importance = some_weights(8, 512, 4)
    on_grid = search.found(kind, weights, None).weights()
    again = search.found(kind, on_grid, importance).weights()
    lost = np.square(again - on_grid).sum() / np.square(on_grid - weights).sum()
    assert lost < (0.05 if kind is TensorType.Q4_K else 0.01), lost


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_the_weights_it_speaks_of(kind: TensorType) -> None:
    found = search.found(kind, some_weights(8, 512, 5)[0], None)
    back = _native.dequantize(int(kind), found.packed(), 8 * 512).reshape(8, 512)
    np.testing.assert_array_equal(back, found.weights())


@pytest.mark.parametrize("kind", KINDS)
def test_odd_weights_stay_what_they_are(kind: TensorType) -> None:
    for value in (0.0, -0.0, 1.0, -1.0, 1e-30, 6.0e4):
        weights = np.full((1, 512), value, np.float32)
        got = _native.dequantize(int(kind), search.found(kind, weights, None).packed(), 512)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, weights[0], rtol=0.01, atol=1e-7)


def test_columns_that_matter_are_kept_better() -> None:
    weights, _ = some_weights(64, 256, 6)
    importance = np.where(np.arange(256) % 4 == 0, 1, 0.01).astype(np.float32)
    squares = [
        np.square(search.found(TensorType.Q4_0, weights, weigh).weights() - weights)[:, ::4].sum()
        for weigh in (None, importance)
    ]
    assert squares[1] < 0.8 * squares[0]


@pytest.mark.parametrize("kind", [TensorType.Q4_0, TensorType.IQ4_NL, TensorType.Q4_1])
def test_large_weights_are_shrunk_less_than_by_least_squares(kind: TensorType) -> None:
    weights, _ = some_weights(64, 512, 7)
    packed = search.quantizer(kind, 512, None)(weights)
    got = _native.dequantize(int(kind), packed, weights.size).reshape(weights.shape)
    fitted = search.found(kind, weights, None).weights()
    large = np.abs(weights) > 3 * np.sqrt(np.square(weights).mean())
    errors = [np.square((one - weights)[large]).mean() for one in (got, fitted)]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize(
    "moments", [np.ones(31, np.float32), np.full(64, np.nan, np.float32), -np.ones(64, np.float32)]
)
def test_statistics_of_something_else_are_refused(moments: np.ndarray) -> None:
    with pytest.raises(ModelFileError, match="calibrate this model again"):
        search.quantizer(TensorType.Q4_0, 64, InputStatistics(1, moments))
