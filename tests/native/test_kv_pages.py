from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui import _native
from miaotui.errors import ModelFileError
from native import oracles
from native.matrices import TIERS, Bytes, Floats, make_activations

KERNELS = {"kv_store"}
SLOTS = 16
STAIN = 0xFF  # of slots that nobody wrote


def expected_keys(x: Floats, kv_dtype: str, half_bytes: int) -> Bytes:
    """Keys lie column by column; integers two columns at a time, then the scales of the 16 slots."""
    tokens, head_dim = x.shape
    page = np.full(half_bytes, STAIN, np.uint8)
    if kv_dtype in oracles.STEPS:
        codes, scales = stored_codes(x, kv_dtype)
        codes_bytes = codes.itemsize * SLOTS * head_dim
        grid = page[:codes_bytes].view(codes.dtype).reshape(head_dim // 2, SLOTS, 2)
        grid[:, :tokens] = codes.reshape(tokens, -1, 2).transpose(1, 0, 2)
        page[codes_bytes : codes_bytes + 4 * SLOTS].view(np.float32)[:tokens] = scales
        return page
    stored = as_stored(x, kv_dtype)
    grid = page[: stored.itemsize * SLOTS * head_dim].view(stored.dtype).reshape(head_dim, SLOTS)
    grid[:, :tokens] = stored.T
    return page


def expected_values(x: Floats, kv_dtype: str, half_bytes: int) -> Bytes:
    """Values lie token by token; integers two tokens at a time, then the scales of the 16 slots."""
    tokens, head_dim = x.shape
    page = np.full(half_bytes, STAIN, np.uint8)
    if kv_dtype in oracles.STEPS:
        codes, scales = stored_codes(x, kv_dtype)
        codes_bytes = codes.itemsize * SLOTS * head_dim
        grid = page[:codes_bytes].view(codes.dtype).reshape(SLOTS // 2, head_dim, 2)
        for token in range(tokens):
            grid[token // 2, :, token % 2] = codes[token]
        page[codes_bytes : codes_bytes + 4 * SLOTS].view(np.float32)[:tokens] = scales
        return page
    stored = as_stored(x, kv_dtype)
    page[: stored.nbytes] = stored.reshape(-1).view(np.uint8)
    return page


def stored_codes(x: Floats, kv_dtype: str) -> tuple[np.ndarray, Floats]:
    codes, scales = oracles.quantize(x, x.shape[1], oracles.STEPS[kv_dtype])
    return codes.astype(kv_dtype), scales[:, 0]


def as_stored(x: Floats, kv_dtype: str) -> np.ndarray:
    if kv_dtype == "f16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16)
    return oracles.to_bfloat(x) if kv_dtype == "bf16" else x


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "int16", "int8"])
@given(
    head_dim=st.sampled_from([32, 64, 96, 128, 256]),
    tokens=st.integers(1, 16),
    style=st.sampled_from(["normal", "mixed", "zeros", "huge", "tiny", "subnormal"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_page_holds_what_numpy_rounds_to(kv_dtype: str, head_dim: int, tokens: int, style: str, seed: int) -> None:
    k, v = make_activations(tokens, head_dim, style, seed), make_activations(tokens, head_dim, style, seed + 1)
    for tier in TIERS:
        keys, values = _native.kernel_kv_store(tier, kv_dtype, k, v)
        np.testing.assert_array_equal(keys, expected_keys(k, kv_dtype, keys.size), err_msg=f"keys, {tier}")
        np.testing.assert_array_equal(values, expected_values(v, kv_dtype, values.size), err_msg=f"values, {tier}")


@pytest.mark.parametrize("kv_dtype", ["f32", "f16", "bf16", "int16", "int8"])
def test_head_dimensions_need_not_be_multiples_of_32(kv_dtype: str) -> None:
    k = make_activations(16, 80, "normal", 0)
    for tier in TIERS:
        keys, values = _native.kernel_kv_store(tier, kv_dtype, k, k)
        np.testing.assert_array_equal(keys, expected_keys(k, kv_dtype, keys.size))
        np.testing.assert_array_equal(values, expected_values(k, kv_dtype, values.size))


def test_pool_sizes_are_what_block_bytes_announces() -> None:
    assert _native.KvPool.BLOCK_TOKENS == SLOTS
    for kv_dtype, per_value in (("f32", 4), ("f16", 2), ("bf16", 2)):
        assert _native.KvPool.block_bytes(3, 2, 64, kv_dtype) == 3 * 2 * 2 * SLOTS * 64 * per_value
    for kv_dtype, per_value in (("int16", 2), ("int8", 1)):
        assert _native.KvPool.block_bytes(3, 2, 64, kv_dtype) == 3 * 2 * 2 * SLOTS * (64 * per_value + 4)
    for kv_dtype in ("f32", "f16", "bf16", "int16", "int8"):
        pool = _native.KvPool(3, 2, 64, 5, kv_dtype)
        assert pool.nbytes == 5 * _native.KvPool.block_bytes(3, 2, 64, kv_dtype)
        assert pool.num_blocks == 5


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((0, 1, 64, 1, "f16"), "num_layers is 0, must be 1 to 4096"),
        ((1, 4097, 64, 1, "f16"), "num_kv_heads is 4097"),
        ((1, 1, 528, 1, "f16"), "head_dim is 528"),
        ((1, 1, 72, 1, "f16"), "head_dim 72 is not a multiple of 16"),
        ((1, 1, 64, 0, "f16"), "num_blocks is 0"),
        ((1, 1, 64, 1, "fp8"), "KV dtype fp8 is not one of f32, f16, bf16, int16, int8"),
        ((4096, 4096, 512, 2**31 - 1, "f32"), "num_blocks is 2147483647"),  # 2^71 bytes
    ],
)
def test_impossible_pools_are_refused(arguments: tuple[int, int, int, int, str], complaint: str) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        _native.KvPool(*arguments)


@pytest.mark.parametrize("shape", [(-1, 1, 64), (1, 2**31 - 1, 64), (1, 1, 0)])
def test_the_size_of_an_impossible_block_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ModelFileError, match="KV pool"):
        _native.KvPool.block_bytes(*shape, "f16")


def test_pages_get_memory_before_they_are_written_and_keep_what_is_in_them() -> None:
    pool = _native.KvPool(8, 4, 64, 400, "f16")
    page = np.full(pool.page_bytes, 7, np.uint8)
    pool.write_page(3, page)
    before = resident_bytes()
    if not pool.populate(2, 300):
        pytest.skip("this system has no call for it")
    assert resident_bytes() - before > 280 * pool.page_bytes  # a page was there, of the system's, which may be 2 MiB
    np.testing.assert_array_equal(pool.read_page(3), page)
    assert pool.populate(0, 0)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 6), (5, 1), (6, 0), (2, -1), (1, 2**62)])
def test_pages_outside_of_the_pool_get_no_memory(first: int, count: int) -> None:
    with pytest.raises(ModelFileError, match="KV pool"):
        _native.KvPool(1, 1, 64, 5, "f16").populate(first, count)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
