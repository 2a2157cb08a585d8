from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tiny_bert import write_tiny_bert
from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats import open_model
from miaotui.formats.quantized import Q8Weights, quantize_q8_0
from miaotui.formats.weights import TensorType

NAME = "encoder.layer.0.output.dense.weight"


@given(
    rows=st.integers(1, 5),
    groups=st.integers(1, 4),
    exponent=st.integers(-24, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_weight_is_at_most_half_a_step_off_and_never_further_than_the_gguf_package_s(
    rows: int, groups: int, exponent: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((rows, 32 * groups)) * 2.0**exponent).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.1] = 0
    blocks = quantize_q8_0(matrix, "w")
    got = _native.dequantize(int(TensorType.Q8_0), blocks, matrix.size).reshape(matrix.shape)
    largest = np.abs(matrix).reshape(rows, groups, 32).max(-1)
    step = np.repeat(largest / 127, 32, axis=1).astype(np.float64)
    # The scale rounds to float16: to a multiple of 2⁻²⁴ at the least, and 127 steps of that error.
    slack = 127 * np.maximum(step * 2.0**-11, 2.0**-25)
    assert np.all(np.abs(got - matrix) <= step / 2 * 1.001 + slack)
    theirs = gguf.quants.dequantize(
        gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    assert np.square(got - matrix).sum() <= np.square(theirs - matrix).sum() * 1.001 + 1e-30


def test_zeros_stay_zeros() -> None:
    assert not quantize_q8_0(np.zeros((2, 64), np.float32), "w").any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_no_scale_can_hold_is_refused_by_name(bad: float) -> None:
    matrix = np.ones((2, 32), np.float32)
    matrix[1, 5] = bad
    with pytest.raises(ModelFileError, match="'w' holds weights that are not finite"):
        quantize_q8_0(matrix, "w")


def test_named_tensors_are_in_8_bits_and_the_others_as_in_the_file(tmp_path: Path) -> None:
    file = open_model(write_tiny_bert(tmp_path))
    weights = Q8Weights(file.weights, {NAME})
    assert set(weights) == set(file.weights)
    assert (len(weights), weights.files, weights.file_bytes) == (
        len(file.weights),
        file.weights.files,
        file.weights.file_bytes,
    )
    for name, tensor in weights.items():
        assert tensor.shape == file.weights[name].shape
        assert tensor.type == (TensorType.Q8_0 if name == NAME else TensorType.F32)
        exact = file.weights[name].to_float32()
        np.testing.assert_allclose(tensor.to_float32(), exact, atol=np.abs(exact).max() / 200)


def test_what_was_made_is_kept_until_it_is_released(tmp_path: Path) -> None:
    weights = Q8Weights(open_model(write_tiny_bert(tmp_path)).weights, {NAME})
    first = weights[NAME]
    assert weights[NAME] is first
    weights.release(NAME)
    weights.release(NAME)
    again = weights[NAME]
    assert again is not first
    np.testing.assert_array_equal(again.data, first.data)
