"""Plain quantization is as good as the reference's, and never makes nonsense of odd weights."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from miaotui import _native
from miaotui.compress.quantize.rtn import quantize
from miaotui.formats.weights import TensorType

KINDS = ["Q8_0", "Q6_K", "Q5_0", "Q5_1", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL"]
REFERENCE = ["Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"]  # what the gguf package quantizes to


def back(kind: TensorType, packed: np.ndarray, count: int) -> np.ndarray:
    assert packed.nbytes == count // kind.block_weights * kind.block_bytes
    return _native.dequantize(int(kind), packed, count)


def error(name: str, weights: np.ndarray) -> float:
    kind = TensorType[name]
    return float(np.square(back(kind, quantize(kind, weights), weights.size) - weights.reshape(-1)).mean())


@pytest.mark.parametrize("name", REFERENCE)
def test_it_is_as_near_as_the_reference(name: str) -> None:
    weights = np.random.default_rng(1).normal(size=(64, 512)).astype(np.float32)
    kind = gguf.GGMLQuantizationType[name]
    reference = gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind)
    assert error(name, weights) <= 1.02 * float(np.square(reference - weights).mean())


def test_more_bits_are_nearer() -> None:
    weights = np.random.default_rng(2).normal(size=(64, 512)).astype(np.float32)
    errors = [error(name, weights) for name in ("Q8_0", "Q6_K", "Q5_1", "Q4_1", "Q4_0")]
    assert errors == sorted(errors)
    assert error("Q4_K", weights) < error("Q4_0", weights)
    assert error("IQ4_NL", weights) < error("Q4_0", weights)


@pytest.mark.parametrize("name", KINDS)
def test_odd_weights_stay_what_they_are(name: str) -> None:
    kind = TensorType[name]
    for value in (0.0, -0.0, 1.0, -1.0, 1e-30, 6.0e4):
        weights = np.full(512, value, np.float32)
        got = back(kind, quantize(kind, weights), 512)
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, weights, rtol=0.13, atol=1e-7)
