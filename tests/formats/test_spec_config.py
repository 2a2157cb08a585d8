"""config.json against transformers: what its configuration classes make of a file is what the spec must say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import Gemma3Config, Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.spec import ModelSpec, RopeScaling
from miaotui.formats.spec_config import spec_from_config

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def spec_of(config: dict[str, Any]) -> ModelSpec:
    return spec_from_config(config, source="config.json", name="tiny")


def saved(config: transformers.PreTrainedConfig, folder: Path) -> dict[str, Any]:
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


def rope_of(config: Any, kind: str = "full_attention") -> dict[str, Any]:
    parameters = config.rope_parameters
    return parameters.get(kind, parameters)


CONFIGS: list[transformers.PreTrainedConfig] = [
    LlamaConfig(**SIZES),
    LlamaConfig(**SIZES | {"num_key_value_heads": None, "head_dim": 32, "tie_word_embeddings": True}),
    LlamaConfig(**SIZES, attention_bias=True, rms_norm_eps=1e-5, rope_theta=5e5),
    LlamaConfig(**SIZES, rope_parameters=LLAMA3 | {"rope_theta": 5e5, "original_max_position_embeddings": 64}),
    LlamaConfig(**SIZES, rope_scaling={"type": "linear", "factor": 2.0}),
    MistralConfig(**SIZES),
    MistralConfig(**SIZES, sliding_window=None, head_dim=16),
    MistralConfig(**SIZES | {"num_key_value_heads": 4}, sliding_window=16),
    Qwen2Config(**SIZES, rope_theta=1e6),
    Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=32, max_window_layers=3),
    Qwen2Config(**SIZES, rope_scaling=YARN),
    Qwen3Config(**SIZES),
    Qwen3Config(**SIZES, head_dim=32, attention_bias=True, tie_word_embeddings=True),
    Qwen3Config(**SIZES, rope_parameters=YARN | {"rope_theta": 1e6, "attention_factor": 1.25, "beta_fast": 16.0}),
    Gemma3TextConfig(**SIZES, head_dim=16),
    Gemma3TextConfig(**SIZES, head_dim=16, query_pre_attn_scalar=168, sliding_window=64, tie_word_embeddings=False),
    Gemma3TextConfig(**SIZES, final_logit_softcapping=30.0, attn_logit_softcapping=50.0, sliding_window_pattern=3),
    Gemma3TextConfig(**SIZES, rope_scaling={"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=5e3),
    Gemma3TextConfig(**SIZES, layer_types=["sliding_attention", "full_attention"] * 4),
    Gemma3TextConfig(),
    Gemma3Config(text_config=SIZES | {"head_dim": 16}).text_config,
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=[f"{i}-{c.model_type}" for i, c in enumerate(CONFIGS)])
def test_spec_says_what_transformers_understands(config: Any, tmp_path: Path) -> None:
    spec = spec_of(saved(config, tmp_path))
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert (spec.vocab_size, spec.hidden_size, spec.intermediate_size, spec.num_layers) == (
        config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers,
    )  # fmt: skip
    assert (spec.num_heads, spec.num_kv_heads) == (config.num_attention_heads, config.num_key_value_heads)
    assert (spec.head_dim, spec.rope_dim) == (head_dim, head_dim)
    assert spec.context_length == config.max_position_embeddings
    assert spec.norm_eps == config.rms_norm_eps
    assert spec.tie_embeddings == config.tie_word_embeddings
    assert spec.attention_bias == getattr(config, "attention_bias", config.model_type == "qwen2")
    assert (spec.source, spec.rope_pairing) == ("safetensors", "neox")


@pytest.mark.parametrize("config", CONFIGS, ids=[f"{i}-{c.model_type}" for i, c in enumerate(CONFIGS)])
def test_rope_is_what_transformers_understands(config: Any, tmp_path: Path) -> None:
    spec = spec_of(saved(config, tmp_path))
    rope, scaling = rope_of(config), spec.rope_scaling
    assert spec.rope_theta == rope["rope_theta"]
    assert scaling.kind == rope["rope_type"].replace("default", "none")
    assert scaling.factor == rope.get("factor", 1.0)
    if scaling.kind in ("llama3", "yarn"):
        assert scaling.original_context == rope["original_max_position_embeddings"]
        for name in ("low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"):
            assert getattr(scaling, name) == rope.get(name, getattr(RopeScaling(), name)), name
    local = rope_of(config, "sliding_attention")["rope_theta"] if config.model_type == "gemma3_text" else None
    assert spec.rope_local_theta == local


@pytest.mark.parametrize("config", CONFIGS, ids=[f"{i}-{c.model_type}" for i, c in enumerate(CONFIGS)])
def test_sliding_layers_are_those_of_transformers(config: Any, tmp_path: Path) -> None:
    spec = spec_of(saved(config, tmp_path))
    window = getattr(config, "sliding_window", None)
    if config.model_type == "mistral":
        kinds = [window is not None] * config.num_hidden_layers
    else:
        types = getattr(config, "layer_types", None) or [None] * spec.num_layers
        kinds = [kind == "sliding_attention" for kind in types]
    assert list(spec.sliding_layers) == kinds
    assert spec.sliding_window == window


def test_gemma3_scales_activates_and_caps_as_in_transformers(tmp_path: Path) -> None:
    config = Gemma3TextConfig(**SIZES, query_pre_attn_scalar=168, final_logit_softcapping=30.0)
    spec = spec_of(saved(config, tmp_path))
    assert spec.attention_scale == pytest.approx(168**-0.5)
    assert spec.embedding_scale == math.sqrt(64)
    assert (spec.activation, spec.norm_offset) == ("gelu_tanh", 1.0)
    assert (spec.attention_softcap, spec.final_softcap) == (None, 30.0)
    plain = spec_of(saved(LlamaConfig(**SIZES), tmp_path))
    assert (plain.activation, plain.norm_offset, plain.embedding_scale, plain.attention_scale) == ("silu", 0, 1, 0.25)


def test_multimodal_gemma3_with_the_defaults_left_out_is_read() -> None:
    # As in gemma-3-4b-it on the hub, written before transformers 5.
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    spec = spec_of({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text})
    assert (spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.vocab_size) == (8, 4, 256, 262208)
    assert (spec.rope_theta, spec.rope_local_theta) == (1e6, 1e4)
    assert spec.rope_scaling == RopeScaling(kind="linear", factor=8.0)
    assert spec.sliding_layers[:7] == (True,) * 5 + (False, True)
    assert spec.tie_embeddings


def test_configs_written_before_transformers_5_are_read() -> None:
    scaling = LLAMA3 | {"original_max_position_embeddings": 64}
    spec = spec_of(SIZES | {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": scaling})
    assert (spec.rope_theta, spec.rope_scaling.kind, spec.rope_scaling.original_context) == (5e5, "llama3", 64)
    gemma = spec_of(SIZES | {"model_type": "gemma3_text", "rope_theta": 2e6, "rope_local_base_freq": 2e4})
    assert (gemma.rope_theta, gemma.rope_local_theta) == (2e6, 2e4)
    qwen = SIZES | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    assert spec_of(qwen).sliding_layers == (False,) * 3 + (True,) * 5
    assert not any(spec_of(qwen | {"use_sliding_window": False}).sliding_layers)


def test_yarn_mscale_gives_the_attention_factor_of_transformers() -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = YARN | {"mscale": 0.7, "mscale_all_dim": 0.3, "rope_theta": 1e4}
    config = Qwen2Config(**SIZES, rope_parameters=dict(rope))
    spec = spec_of(SIZES | {"model_type": "qwen2", "rope_parameters": rope})
    assert spec.rope_scaling.attention_factor == pytest.approx(ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")[1])


@pytest.mark.parametrize("key", [key for key in SIZES if key != "num_key_value_heads"])
def test_a_missing_size_is_named(key: str) -> None:
    config = {"model_type": "llama", **SIZES}
    del config[key]
    with pytest.raises(ModelFileError, match=f"config.json: the key '{key}' is missing"):
        spec_of(config)


@pytest.mark.parametrize("value", ["64", 64.0, True, [], [64, 65], {}, -1, 0, 2**31, 10**400])
def test_a_size_of_the_wrong_type_or_range_is_named(value: object) -> None:
    names = {
        "hidden_size": "hidden_size",
        "num_hidden_layers": "layers",
        "num_attention_heads": "num_",
        "vocab_size": "vocab",
    }
    for key, name in names.items():
        with pytest.raises(ModelFileError, match=f"^config.json: .*{name}"):
            spec_of({"model_type": "llama", **SIZES, key: value})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_key_value_heads": 3}, "num_heads .4. must be a multiple of num_kv_heads .3."),
        ({"num_key_value_heads": 0}, "num_kv_heads is 0"),
        ({"head_dim": 15}, "rope_dim .15. must be even"),
        ({"head_dim": 4096}, "head_dim is 4096"),
        ({"rms_norm_eps": "small"}, "'rms_norm_eps' must be a finite number"),
        ({"rms_norm_eps": 10**400}, "'rms_norm_eps' must be a finite number"),
        ({"rms_norm_eps": -1.0}, "norm_eps is -1.0"),
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"rope_scaling": {"type": "linear"}}, "the key 'factor' is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 0.0}}, "rope scaling factor is 0"),
        ({"rope_scaling": "linear"}, "'rope_scaling' must be an object"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "high_freq_factor must be greater"),
        ({"rope_scaling": YARN | {"original_max_position_embeddings": 0}}, "'original_max_position_embeddings'"),
        ({"rope_scaling": YARN | {"beta_fast": 1.0, "beta_slow": 2.0}}, "beta_fast must not be smaller"),
        ({"hidden_size": 512, "num_attention_heads": 512, "head_dim": 1024}, "num_heads x head_dim = 524288 is more"),
        ({"tie_word_embeddings": 1}, "'tie_word_embeddings' must be true or false"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window is 0"),
        ({"model_type": "gemma3", "text_config": []}, "'text_config' must be an object"),
        ({"model_type": "gemma3_text", "layer_types": ["full_attention"]}, "1 layer types are given for 8 layers"),
        ({"model_type": "gemma3_text", "layer_types": ["chunked"] * 8}, "'layer_types' must be a list of"),
        ({"model_type": "gemma3_text", "sliding_window": None}, "the sliding window is missing"),
        ({"model_type": "gemma3_text", "query_pre_attn_scalar": 0}, "'query_pre_attn_scalar' must be positive"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 0}, "'sliding_window_pattern' must be at least 1"),
        ({"model_type": 7}, "'model_type' must be a string"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ModelFileError, match=match) as caught:
        spec_of({"model_type": "llama", **SIZES, **change})
    assert str(caught.value).startswith("config.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "gpt_neox"}, "model type 'gpt_neox' is not supported .supported: llama, mistral, qwen2"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized by another tool"),
        ({"hidden_act": "relu"}, "activation 'relu' is not supported for llama"),
        ({"mlp_bias": True}, "'mlp_bias' is not supported"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "rope scaling 'longrope' is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope scaling 'dynamic' is not supported"),
        ({"rope_scaling": YARN | {"truncate": False}}, "yarn without 'truncate'"),
        ({"partial_rotary_factor": 0.5}, "'partial_rotary_factor' other than 1"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "'use_bidirectional_attention'"),
        (
            {"model_type": "gemma3_text", "rope_parameters": {"sliding_attention": {"rope_type": "linear"}}},
            "rope scaling of local layers",
        ),
    ],
)
def test_unsupported_variants_are_named(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UnsupportedModelError, match=match) as caught:
        spec_of({"model_type": "llama", **SIZES, **change})
    assert str(caught.value).startswith("config.json")
