"""The native search for codes finds the same on every tier, and what it says of itself is true."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from miaotui.compress.quantize.codes import Found, values_of
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType
from native.matrices import TIERS

KERNELS = {"search_codes", "search_super_codes"}

KINDS = [TensorType[name] for name in ("Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL")]
FED_BACK = [kind for kind in KINDS if kind is not TensorType.Q6_K]


def some_weights(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    return rng.standard_t(4, (rows, columns)).astype(np.float32), rng.gamma(0.7, size=columns).astype(np.float32)


def some_feedback() -> np.ndarray:
    return np.triu(np.random.default_rng(5).normal(scale=0.3, size=(32, 32)), 1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_magnitude", [False, True])
def test_every_tier_finds_the_same_bits(kind: TensorType, by_magnitude: bool) -> None:
    weights, importance = some_weights(5, 768)
    first, *others = (_native.quantize(int(kind), weights, importance, by_magnitude, tier=tier) for tier in TIERS)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("is_near", [False, True])
@pytest.mark.parametrize("kind", FED_BACK)
def test_every_tier_feeds_back_the_same(kind: TensorType, is_near: bool) -> None:
    weights, importance = some_weights(37, 32)
    units = np.tile(np.float32([[0.01, -0.02]]), (37, 1)) if kind is TensorType.Q4_K else None
    near = np.tile(np.float32([[0.3, -2.0]]), (37, 1)) if is_near else None
    first, *others = (
        _native.quantize(int(kind), weights, importance, False, some_feedback(), units, near, tier=tier)
        for tier in TIERS
    )
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [kind for kind in FED_BACK if kind is not TensorType.Q4_K])
def test_codes_are_what_feedback_rounds_to(kind: TensorType) -> None:
    targets, importance = some_weights(37, 32)
    feedback = some_feedback()
    got = Found(kind, *_native.quantize(int(kind), targets, importance, False, feedback))
    grid = values_of(kind, np.arange({"Q8": 256, "Q5": 32}.get(kind.name[:2], 16), dtype=np.uint8))
    grid = np.unique(np.maximum(grid, -127))
    errors, exact = np.zeros((37, 32)), 0
    scales, minimums = got.scales[:, 0].astype(np.float64), got.minimums[:, 0].astype(np.float64)
    for column in range(32):
        asked = targets[:, column] + errors[:, :column] @ feedback[:column, column]
        values = values_of(kind, got.codes[:, column])
        distances = np.abs(asked[:, None] - scales[:, None] * grid - minimums[:, None])
        chosen = np.abs(asked - scales * values - minimums)
        assert (chosen <= distances.min(axis=1) + 0.26 * np.abs(scales)).all()  # the code book rounds to quarters
        exact += int((chosen <= distances.min(axis=1) + 1e-3 * np.abs(scales)).sum())
        errors[:, column] = targets[:, column] - scales * values - minimums
    assert exact > 0.98 * targets.size


@pytest.mark.parametrize("kind", [kind for kind in FED_BACK if kind is not TensorType.Q4_K])
def test_a_search_near_a_fit_finds_what_is_there(kind: TensorType) -> None:
    weights, importance = some_weights(37, 32)

    def found(near: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        got = Found(kind, *_native.quantize(int(kind), weights, importance, near=near))
        return np.square(got.weights() - weights) @ importance, np.concatenate([got.scales, got.minimums], axis=1)

    everywhere, fit = found(None)
    there, _ = found(fit)
    assert (there <= 1.02 * everywhere).all()  # what is best before scales are rounded may not be so after
    assert there.sum() <= 1.001 * everywhere.sum()
    elsewhere, _ = found(fit * np.float32([[1.6, 1.6]]))
    assert elsewhere.sum() > 1.01 * everywhere.sum()


@pytest.mark.parametrize("columns", [0, 31, 33])
def test_what_is_no_whole_block_is_refused(columns: int) -> None:
    with pytest.raises(ModelFileError, match="no whole blocks"):
        _native.quantize(int(TensorType.Q4_0), np.zeros((2, columns), np.float32))
    with pytest.raises(ModelFileError, match="no whole blocks"):
        _native.quantize(int(TensorType.Q4_K), np.zeros((2, 32), np.float32))


def test_arguments_that_contradict_each_other_are_refused() -> None:
    weights, short = np.zeros((2, 64), np.float32), np.ones(32, np.float32)
    with pytest.raises(ModelFileError, match="one number per column"):
        _native.quantize(int(TensorType.Q4_0), weights, short)
    with pytest.raises(ModelFileError, match="32 x 32"):
        _native.quantize(int(TensorType.Q4_0), weights, None, False, np.zeros((64, 64), np.float32))
    with pytest.raises(ModelFileError, match="no whole blocks"):
        _native.quantize(int(TensorType.Q4_0), weights, None, False, np.zeros((32, 32), np.float32))
    with pytest.raises(ModelFileError, match="two per row"):
        _native.quantize(int(TensorType.Q4_K), weights[:, :32], None, False, None, np.zeros((3, 2), np.float32))
    with pytest.raises(ModelFileError, match="a scale and a minimum per row"):
        _native.quantize(int(TensorType.Q4_0), weights[:, :32], near=np.zeros((3, 2), np.float32))
    with pytest.raises(ModelFileError, match="no whole blocks"):
        _native.quantize(int(TensorType.Q4_0), weights, near=np.zeros((2, 2), np.float32))
    with pytest.raises(ModelFileError, match="nothing is quantized"):
        _native.quantize(int(TensorType.F16), weights)
