"""Packed blocks stand for what their scales and codes say."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from miaotui.compress.quantize.blocks import IQ4_VALUES, pack_group, pack_q4_k, pack_q6_k
from miaotui.formats.weights import TensorType

BLOCKS = 50
RNG = np.random.default_rng(5)


def halves(count: int = BLOCKS) -> np.ndarray:
    return RNG.normal(size=count).astype(np.float16)


def read(kind: TensorType, packed: np.ndarray) -> np.ndarray:
    count = len(packed) * kind.block_weights
    return _native.dequantize(int(kind), packed.reshape(-1), count).reshape(len(packed), -1)


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        (TensorType.Q4_0, np.arange(-8, 8)),
        (TensorType.Q5_0, np.arange(-16, 16)),
        (TensorType.IQ4_NL, IQ4_VALUES),
        (TensorType.Q4_1, np.arange(16)),
        (TensorType.Q5_1, np.arange(32)),
    ],
)
def test_blocks_of_32(kind: TensorType, levels: np.ndarray) -> None:
    scale, codes = halves(), RNG.integers(0, len(levels), (BLOCKS, 32)).astype(np.uint8)
    minimum = halves() if kind.name.endswith("_1") else None
    expected = scale.astype(np.float32)[:, None] * levels.astype(np.float32)[codes]
    if minimum is not None:
        expected += minimum.astype(np.float32)[:, None]
    packed = pack_group(kind, scale, minimum, codes)
    assert packed.shape == (BLOCKS, kind.block_bytes)
    np.testing.assert_array_equal(read(kind, packed), expected)


def test_blocks_of_signed_bytes() -> None:
    scale, codes = halves(), RNG.integers(-127, 128, (BLOCKS, 32)).astype(np.int8)
    packed = pack_group(TensorType.Q8_0, scale, None, codes.view(np.uint8))
    np.testing.assert_array_equal(read(TensorType.Q8_0, packed), scale.astype(np.float32)[:, None] * codes)


def test_super_blocks_with_minimums() -> None:
    d, dmin = halves(), halves()
    scales, minimums = (RNG.integers(0, 64, (BLOCKS, 8)).astype(np.uint8) for _ in range(2))
    codes = RNG.integers(0, 16, (BLOCKS, 256)).astype(np.uint8)
    step = d.astype(np.float32)[:, None] * scales
    least = dmin.astype(np.float32)[:, None] * minimums
    expected = step[:, :, None] * codes.reshape(BLOCKS, 8, 32) - least[:, :, None]
    packed = pack_q4_k(d, dmin, scales, minimums, codes)
    assert packed.shape == (BLOCKS, TensorType.Q4_K.block_bytes)
    np.testing.assert_array_equal(read(TensorType.Q4_K, packed), expected.reshape(BLOCKS, 256))


def test_super_blocks_of_six_bits() -> None:
    d, scales = halves(), RNG.integers(-128, 128, (BLOCKS, 16)).astype(np.int8)
    codes = RNG.integers(0, 64, (BLOCKS, 256)).astype(np.uint8)
    step = d.astype(np.float32)[:, None] * scales
    expected = step[:, :, None] * (codes.reshape(BLOCKS, 16, 16).astype(np.float32) - 32)
    packed = pack_q6_k(d, scales, codes)
    assert packed.shape == (BLOCKS, TensorType.Q6_K.block_bytes)
    np.testing.assert_array_equal(read(TensorType.Q6_K, packed), expected.reshape(BLOCKS, 256))
