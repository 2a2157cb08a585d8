from __future__ import annotations

import warnings

import gguf
import numpy as np
import pytest
from gguf import quants
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType

ALL_TYPES = list(TensorType)
# Where the float16 scales of a block lie: replaced by the values at the edges of the format.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}  # fmt: skip
# ±0, smallest and largest subnormal, smallest normal, 1, largest finite, infinity
EDGES = [0x0000, 0x8000, 0x0001, 0x03FF, 0x8001, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00]


def reference(kind: TensorType, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    number = gguf.GGMLQuantizationType(int(kind))
    shaped = blocks.reshape(-1) if kind in (TensorType.F32, TensorType.F16) else blocks.reshape(1, -1)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.ascontiguousarray(quants.dequantize(shaped, number), np.float32).reshape(-1)


def assert_same_bits(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    # Which NaN a float16 NaN becomes is up to NumPy's processor; that it is one is not.
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view(np.uint32)[~nan], want.view(np.uint32)[~nan])


def dequantize(kind: TensorType, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = blocks.reshape(-1)
    return _native.dequantize(int(kind), flat, flat.size // kind.block_bytes * kind.block_weights)


@pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: kind.name)
def test_any_block_gives_the_reference_bits(kind: TensorType) -> None:
    rng = np.random.default_rng(int(kind))
    blocks = rng.integers(0, 256, (2000, kind.block_bytes), dtype=np.uint8)
    assert_same_bits(dequantize(kind, blocks), reference(kind, blocks))


@pytest.mark.parametrize("kind", [TensorType[name] for name in SCALES], ids=lambda kind: kind.name)
def test_scales_at_the_edges_of_float16_give_the_reference_bits(kind: TensorType) -> None:
    rng = np.random.default_rng(int(kind))
    offsets = SCALES[kind.name]
    pairs = [(a, b) for a in EDGES for b in EDGES]
    blocks = rng.integers(0, 256, (len(pairs), kind.block_bytes), dtype=np.uint8)
    for place, offset in enumerate(offsets):
        blocks[:, offset : offset + 2] = np.array([pair[place] for pair in pairs], "<u2").view(np.uint8).reshape(-1, 2)
    assert_same_bits(dequantize(kind, blocks), reference(kind, blocks))


@pytest.mark.parametrize("kind", [k for k in ALL_TYPES if k.name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16")])
def test_weights_quantized_by_the_reference_come_back_alike(kind: TensorType) -> None:
    rows = np.random.default_rng(3).normal(0, 0.05, (8, 256)).astype(np.float32)
    blocks = quants.quantize(rows, gguf.GGMLQuantizationType(int(kind))).view(np.uint8)
    assert_same_bits(dequantize(kind, blocks), reference(kind, blocks))
    assert np.abs(dequantize(kind, blocks).reshape(8, 256) - rows).max() < 0.05


@given(data=st.data(), kind=st.sampled_from(ALL_TYPES), num_blocks=st.integers(0, 4))
def test_blocks_found_by_search_give_the_reference_bits(data: st.DataObject, kind: TensorType, num_blocks: int) -> None:
    blocks = data.draw(hnp.arrays(np.uint8, (num_blocks, kind.block_bytes)))
    if num_blocks:
        assert_same_bits(dequantize(kind, blocks), reference(kind, blocks))
    else:
        assert dequantize(kind, blocks).size == 0


def test_every_float16_is_converted_exactly() -> None:
    halves = np.arange(65536, dtype="<u2")
    assert_same_bits(dequantize(TensorType.F16, halves.view(np.uint8)), halves.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: kind.name)
def test_unaligned_blocks_are_read_alike(kind: TensorType) -> None:
    blocks = np.random.default_rng(5).integers(0, 256, kind.block_bytes * 3 + 1, dtype=np.uint8)
    assert_same_bits(dequantize(kind, blocks[1:]), dequantize(kind, blocks[1:].copy()))


@pytest.mark.parametrize("kind", ALL_TYPES, ids=lambda kind: kind.name)
def test_a_count_that_does_not_match_the_bytes_is_refused(kind: TensorType) -> None:
    data = np.zeros(kind.block_bytes * 2, np.uint8)
    whole = kind.block_weights * 2
    for count in (0, whole - 1, whole + 1, whole * 2, -whole, 2**62, 2**63 - 1):
        with pytest.raises(ModelFileError, match="do not fill"):
            _native.dequantize(int(kind), data, count)


def test_an_unknown_type_is_refused() -> None:
    for number in (4, 9, 15, 99, -1, 2**31 - 1):
        with pytest.raises(ModelFileError, match=f"weight type {number} is not supported"):
            _native.dequantize(number, np.zeros(64, np.uint8), 32)


def test_block_shapes_agree_with_the_reference() -> None:
    for kind in ALL_TYPES:
        assert (kind.block_weights, kind.block_bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(int(kind))]
