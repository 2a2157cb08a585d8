"""Errors that are fed back cost the layer less than errors that are not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from miaotui import _native
from miaotui.compress.calibration import InputStatistics
from miaotui.compress.quantize import gptq, search
from miaotui.compress.quantize.feedback import damped, factored
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.weights import TensorType

KINDS = [TensorType[name] for name in ("Q5_0", "Q5_1", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL")]
COLUMNS = 512


def some_layer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [40, columns] and inputs [tokens, columns] that lie near a subspace, some of them large."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(64, COLUMNS)) * rng.gamma(0.5, size=COLUMNS)
    inputs = rng.normal(size=(2048, 64)) @ mixing + 0.1 * rng.normal(size=(2048, COLUMNS))
    return rng.standard_t(5, (40, COLUMNS)).astype(np.float32), inputs.astype(np.float32)


def statistics_of(inputs: np.ndarray) -> InputStatistics:
    hessian = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    return InputStatistics(len(inputs), hessian.diagonal().copy(), hessian=lambda: hessian)


def lost(kind: TensorType, weights: np.ndarray, inputs: np.ndarray, packed: np.ndarray) -> float:
    back = _native.dequantize(int(kind), packed, weights.size).reshape(weights.shape)
    return float(np.square((back - weights) @ inputs.T).mean())


def test_the_factors_are_those_of_the_matrix() -> None:
    hessian = damped(statistics_of(some_layer(1)[1]).hessian(), 0.1)
    parts = factored(hessian)
    whole = parts.upper.astype(np.float64) + np.eye(COLUMNS)
    assert (np.tril(parts.upper) == 0).all()
    np.testing.assert_allclose(whole * parts.costs @ whole.T, hessian, rtol=1e-3, atol=1e-3 * hessian.max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_loses_less_than_by_search(kind: TensorType) -> None:
    weights, inputs = some_layer(2)
    statistics = statistics_of(inputs)
    by = {m: m.quantizer(kind, COLUMNS, statistics)(weights) for m in (search, gptq)}
    assert lost(kind, weights, inputs, by[gptq]) < 0.5 * lost(kind, weights, inputs, by[search])


@pytest.mark.parametrize("kind", KINDS)
def test_no_pass_makes_it_worse(kind: TensorType) -> None:
    weights, inputs = some_layer(3)
    heard: list[float] = []
    layer = gptq.Layer.prepared(kind, statistics_of(inputs).hessian())
    found = gptq.quantized(layer, weights, passes=3, told=heard.append)
    assert len(heard) == 4
    assert all(after <= before * (1 + 1e-5) for before, after in pairwise(heard))
    assert heard[-1] < heard[0]
    back = _native.dequantize(int(kind), found.packed(), weights.size).reshape(weights.shape)
    np.testing.assert_array_equal(back, found.weights())
    errors = (weights - back)[:, layer.order].astype(np.float64)
    assert np.einsum("ij,ij->", errors @ layer.hessian, errors) == pytest.approx(heard[-1], rel=1e-3)


def test_unrelated_inputs_leave_what_search_finds() -> None:
    weights, _ = some_layer(4)
    moments = np.random.default_rng(4).gamma(1, size=COLUMNS).astype(np.float32)
    statistics = InputStatistics(9, moments, hessian=lambda: np.diag(moments))
    for kind in (TensorType.Q4_0, TensorType.Q4_1):
        packed = gptq.quantizer(kind, COLUMNS, statistics)(weights)
        found = search.found(kind, weights, search.importance_of(moments, COLUMNS))
        got = _native.dequantize(int(kind), packed, weights.size).reshape(weights.shape)
        costs = [np.square(one - weights) @ moments for one in (found.weights(), got)]
        assert costs[1].sum() == pytest.approx(costs[0].sum(), rel=0.01)


def test_inputs_that_were_never_seen_do_no_harm() -> None:
    weights, inputs = some_layer(5)
    inputs[:, 100:200] = 0
    packed = gptq.quantizer(TensorType.Q4_0, COLUMNS, statistics_of(inputs))(weights)
    back = _native.dequantize(int(TensorType.Q4_0), packed, weights.size).reshape(weights.shape)
    assert np.square(back - weights)[:, 100:200].mean() < 0.03 * np.square(weights).mean()
    nothing = gptq.quantizer(TensorType.Q4_0, COLUMNS, statistics_of(np.zeros_like(inputs)))(weights)
    assert np.isfinite(_native.dequantize(int(TensorType.Q4_0), nothing, weights.size)).all()


def test_without_a_hessian_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="Hessians"):
        gptq.quantizer(TensorType.Q4_0, 64, InputStatistics(1, np.ones(64, np.float32)))


@pytest.mark.parametrize("hessian", [np.ones((32, 32)), np.full((64, 64), np.nan), -np.eye(64)])
def test_a_damaged_hessian_is_refused(hessian: np.ndarray) -> None:
    statistics = InputStatistics(1, np.ones(64, np.float32), hessian=lambda: hessian.astype(np.float32))
    with pytest.raises(ModelFileError, match="calibrat"):
        gptq.quantizer(TensorType.Q4_0, 64, statistics)
