from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from graph.toy import make_tensor, toy_spec
from miaotui.errors import ModelFileError
from miaotui.formats.spec import RopeScaling
from miaotui.formats.weights import Tensor, TensorType
from miaotui.graph.rope import main_rope_table, plain_rope_table

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768}
SHORT_YARN = {"factor": 16.0, "original_max_position_embeddings": 64, "beta_fast": 8.0, "beta_slow": 2.0}


def reference(kind: str, theta: float, **parameters: float) -> tuple[np.ndarray, float]:
    config = LlamaConfig(
        hidden_size=128,
        num_attention_heads=1,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **parameters},
    )
    inv_freq, factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return inv_freq.numpy(), factor


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize(
    ("parameters", "scaling"),
    [
        ({"factor": 4.0}, RopeScaling(kind="linear", factor=4.0)),
        (LLAMA3, RopeScaling(kind="llama3", factor=8.0, original_context=8192)),
        (YARN, RopeScaling(kind="yarn", factor=4.0, original_context=32768)),
        (
            SHORT_YARN,
            RopeScaling(kind="yarn", factor=16.0, original_context=64, beta_fast=8.0, beta_slow=2.0),
        ),
        (
            YARN | {"attention_factor": 1.5},
            RopeScaling(kind="yarn", factor=4.0, original_context=32768, attention_factor=1.5),
        ),
    ],
)
def test_scaled_frequencies_equal_those_of_transformers(theta, parameters, scaling):
    inv_freq, mscale = reference(scaling.kind, theta, **parameters)
    table = main_rope_table(toy_spec(head_dim=128, rope_dim=128, rope_theta=theta, rope_scaling=scaling), {})
    np.testing.assert_allclose(table.inv_freq, inv_freq, rtol=2e-6)
    assert table.mscale == pytest.approx(mscale, rel=1e-7)


def test_plain_frequencies_fall_from_one_to_the_base():
    table = plain_rope_table(8, 10_000.0)
    np.testing.assert_allclose(table.inv_freq, [1.0, 0.1, 0.01, 0.001])
    assert table.mscale == 1.0


def test_factors_of_the_file_divide_the_frequencies():
    scaling = RopeScaling(freq_factors_tensor="rope_freqs.weight")
    factors = np.array([1, 1, 1, 1, 2, 4, 8, 8], np.float32)
    weights = {"rope_freqs.weight": Tensor("rope_freqs.weight", TensorType.F32, (8,), factors.view(np.uint8))}
    table = main_rope_table(toy_spec(rope_dim=16, rope_scaling=scaling), weights)
    np.testing.assert_allclose(table.inv_freq, plain_rope_table(16, 10_000.0).inv_freq / factors)


@pytest.mark.parametrize(
    "scaling",
    [
        RopeScaling(kind="linear", factor=4.0),
        RopeScaling(kind="yarn", factor=16.0, original_context=64, beta_fast=8.0, beta_slow=2.0),
        RopeScaling(kind="yarn", factor=4.0, original_context=64, attention_factor=1.5),
    ],
)
def test_factors_of_the_file_and_a_scaling_both_apply(scaling):
    """As in ggml's `rope_yarn`: angles are divided by their factors first; whom yarn stretches, and `mscale`, stay."""
    factors = np.array([1, 1, 1.5, 2, 2, 4, 8, 8], np.float32)
    weights = {"rope_freqs.weight": Tensor("rope_freqs.weight", TensorType.F32, (8,), factors.view(np.uint8))}
    scaled = main_rope_table(toy_spec(rope_dim=16, rope_scaling=scaling), {})
    both = replace(scaling, freq_factors_tensor="rope_freqs.weight")
    table = main_rope_table(toy_spec(rope_dim=16, rope_scaling=both), weights)
    np.testing.assert_allclose(table.inv_freq, np.array(scaled.inv_freq) / factors, rtol=1e-12)
    assert table.mscale == scaled.mscale
    assert max(np.array(scaled.inv_freq) / plain_rope_table(16, 10_000.0).inv_freq) <= 1.0


@pytest.mark.parametrize("factors", [[1.0] * 7, [1.0] * 7 + [0.0], [1.0] * 7 + [np.nan]])
def test_unusable_factors_are_refused_by_name(factors):
    scaling = RopeScaling(freq_factors_tensor="rope_freqs.weight")
    data = np.array(factors, np.float32).view(np.uint8)
    weights = {"rope_freqs.weight": Tensor("rope_freqs.weight", TensorType.F32, (len(factors),), data)}
    with pytest.raises(ModelFileError, match=r"rope_freqs\.weight"):
        main_rope_table(toy_spec(rope_dim=16, rope_scaling=scaling), weights)


def test_missing_factors_are_refused_by_name():
    spec = toy_spec(rope_scaling=RopeScaling(freq_factors_tensor="rope_freqs.weight"))
    other = make_tensor("other", (8,), TensorType.F32, np.random.default_rng(0))
    with pytest.raises(ModelFileError, match=r"rope_freqs\.weight"):
        main_rope_table(spec, {"other": other})
