"""ModelSpec from a Hugging Face `config.json`, with the defaults that transformers' configuration classes have."""

from __future__ import annotations

import math
from collections.abc import Mapping

from miaotui.errors import ModelFileError, UnsupportedModelError, brief
from miaotui.formats.spec import Architecture, ModelSpec
from miaotui.formats.spec_encoder import spec_from_bert
from miaotui.formats.spec_fields import Fields
from miaotui.formats.spec_rope import local_rope_theta, rope_parameters, rope_scaling

_MODEL_TYPES: dict[str, Architecture] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
    "gemma3": "gemma3",
    "bert": "bert",
}
# What a configuration may leave out. Sizes that have no entry here must be present.
_DEFAULTS: dict[str, dict[str, object]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
    "gemma3_text": {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
    "bert": {},
}
_ACTIVATIONS = {"llama": "silu", "qwen2": "silu", "qwen3": "silu", "gemma3": "gelu_pytorch_tanh"}
_GEMMA3_PATTERN = 6


def spec_from_config(config: Mapping[str, object], *, source: str, name: str) -> ModelSpec:
    """The spec that `config` (a parsed config.json) describes; `source` names it in errors, `name` is the model's name.

    Raises UnsupportedModelError for another model type or a feature that miaotui lacks, ModelFileError for missing,
    mistyped or contradictory values.
    """
    model_type = Fields(source, config).string("model_type")
    if model_type not in _MODEL_TYPES:
        known = ", ".join(_MODEL_TYPES)
        raise UnsupportedModelError(f"{source}: model type {brief(model_type)} is not supported (supported: {known}).")
    if config.get("quantization_config") is not None:
        raise UnsupportedModelError(
            f"{source}: the weights are quantized by another tool (quantization_config); "
            "take the original model, or a GGUF file."
        )
    if model_type == "gemma3":
        model_type, source = "gemma3_text", f"{source}: text_config"
        config = Fields(source, config).section("text_config").values
    # An explicit null stays one: it means "none", while a missing key means the default.
    fields = Fields(source, {**_DEFAULTS[model_type], **config})
    try:
        return spec_from_bert(fields, name) if model_type == "bert" else _spec(fields, model_type, name)
    except (ModelFileError, UnsupportedModelError) as error:
        if str(error).startswith(source):
            raise
        raise type(error)(f"{source}: {error}") from None


def _spec(fields: Fields, model_type: str, name: str) -> ModelSpec:
    arch = _MODEL_TYPES[model_type]
    _refuse_variants(fields, arch)
    hidden_size, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    head_dim = _head_dim(fields, hidden_size, num_heads)
    context_length = fields.integer("max_position_embeddings")
    window = _sliding_window(fields, model_type)
    rope = rope_parameters(fields)
    gemma = arch == "gemma3"
    return ModelSpec(
        architecture=arch,
        name=name,
        source="safetensors",
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", num_heads),
        head_dim=head_dim,
        context_length=context_length,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation="gelu_tanh" if gemma else "silu",
        rope_dim=head_dim,
        rope_theta=rope.number("rope_theta", fields.number("rope_theta", 1_000_000.0 if gemma else 10_000.0)),
        rope_local_theta=local_rope_theta(fields) if gemma else None,
        rope_scaling=rope_scaling(rope, fields, context_length),
        rope_pairing="neox",
        attention_scale=_attention_scale(fields, arch, head_dim),
        attention_bias=arch == "qwen2" or fields.boolean("attention_bias", False),
        sliding_window=window,
        sliding_layers=_sliding_layers(fields, model_type, window),
        attention_softcap=fields.optional_number("attn_logit_softcapping") or None,
        final_softcap=fields.optional_number("final_logit_softcapping") or None,
        tie_embeddings=fields.boolean("tie_word_embeddings", False),
        embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
        norm_offset=1.0 if gemma else 0.0,
    )


def _refuse_variants(fields: Fields, arch: Architecture) -> None:
    activation = fields.string("hidden_activation" if arch == "gemma3" else "hidden_act", _ACTIVATIONS[arch])
    if activation != _ACTIVATIONS[arch]:
        raise UnsupportedModelError(
            f"activation {brief(activation)} is not supported for {arch} (supported: {_ACTIVATIONS[arch]})."
        )
    for key in ("mlp_bias", "use_bidirectional_attention"):
        if fields.boolean(key, False):
            raise UnsupportedModelError(f"'{key}' is not supported.")


def _head_dim(fields: Fields, hidden_size: int, num_heads: int) -> int:
    if not 1 <= num_heads <= hidden_size:
        raise fields.wrong("num_attention_heads", num_heads, "between 1 and hidden_size")
    return fields.integer("head_dim", hidden_size // num_heads)


def _attention_scale(fields: Fields, arch: Architecture, head_dim: int) -> float:
    key = "query_pre_attn_scalar" if arch == "gemma3" else "head_dim"
    divisor = fields.number(key) if arch == "gemma3" else float(head_dim)
    if divisor <= 0:
        raise fields.wrong(key, divisor, "positive")
    return 1.0 / math.sqrt(divisor)


def _sliding_window(fields: Fields, model_type: str) -> int | None:
    if model_type == "llama" or (model_type in ("qwen2", "qwen3") and not fields.boolean("use_sliding_window", False)):
        return None
    return fields.integer("sliding_window") if "sliding_window" in fields else None


def _sliding_layers(fields: Fields, model_type: str, window: int | None) -> tuple[bool, ...]:
    num_layers = fields.integer("num_hidden_layers")
    if not 1 <= num_layers <= 1024:  # the tuple is built before ModelSpec checks its fields
        raise fields.wrong("num_hidden_layers", num_layers, "between 1 and 1024")
    if model_type in ("llama", "mistral"):
        return (window is not None,) * num_layers
    if (types := fields.items("layer_types")) is not None:
        if not all(kind in ("sliding_attention", "full_attention") for kind in types):
            raise fields.wrong("layer_types", types, "a list of 'sliding_attention' and 'full_attention'")
        return tuple(kind == "sliding_attention" for kind in types)
    if model_type == "gemma3_text":
        period = fields.integer("sliding_window_pattern", _GEMMA3_PATTERN)
        if period < 1:
            raise fields.wrong("sliding_window_pattern", period, "at least 1")
        return tuple((layer + 1) % period != 0 for layer in range(num_layers))
    first = fields.integer("max_window_layers", 28) if window is not None else num_layers
    return tuple(layer >= first for layer in range(num_layers))
