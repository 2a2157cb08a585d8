"""ModelSpec from GGUF metadata (key names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

from __future__ import annotations

import math

from miaotui.errors import ModelFileError, UnsupportedModelError, brief
from miaotui.formats.gguf import GgufFile
from miaotui.formats.spec import ARCHITECTURES, Architecture, ModelSpec, RopeScaling
from miaotui.formats.spec_encoder import spec_from_gguf_bert
from miaotui.formats.spec_fields import Fields
from miaotui.formats.spec_text_cnn import spec_from_text_cnn

_GEMMA3_PATTERN = 6  # five local layers, then a global one
_GEMMA3_27B_LAYERS = 62
_ROPE_FACTORS = "rope_freqs.weight"


def spec_from_gguf(file: GgufFile) -> ModelSpec:
    """The spec of a GGUF file.

    Raises UnsupportedModelError for another architecture or a feature of one that miaotui lacks, ModelFileError for
    missing, mistyped or contradictory metadata.
    """
    fields = Fields(str(file.path), file.metadata)
    architecture = _architecture(fields)
    try:
        return _spec(file, fields, architecture)
    except (ModelFileError, UnsupportedModelError) as error:
        if str(error).startswith(str(file.path)):
            raise
        raise type(error)(f"{file.path}: {error}") from None


def _architecture(fields: Fields) -> Architecture:
    name = fields.string("general.architecture")
    for known in ARCHITECTURES:
        if known == name:
            return known
    raise UnsupportedModelError(
        f"{fields.source}: architecture {brief(name)} is not supported (supported: {', '.join(ARCHITECTURES)})."
    )


def _spec(file: GgufFile, fields: Fields, arch: Architecture) -> ModelSpec:
    if arch == "bert":
        return spec_from_gguf_bert(fields, fields.string("general.name", file.path.stem), _vocab_size(file))
    if arch == "text_cnn":
        return spec_from_text_cnn(fields, fields.string("general.name", file.path.stem), _vocab_size(file))
    if fields.integer(f"{arch}.expert_count", 0) > 0:
        raise UnsupportedModelError("mixtures of experts are not supported; take a dense model.")
    hidden_size = fields.integer(f"{arch}.embedding_length")
    num_heads = fields.integer(f"{arch}.attention.head_count")
    num_layers = _bounded_layers(fields, f"{arch}.block_count")
    head_dim = _head_dim(fields, arch, hidden_size, num_heads)
    context_length = fields.integer(f"{arch}.context_length")
    window = _sliding_window(fields, arch)
    gemma = arch == "gemma3"
    return ModelSpec(
        architecture=arch,
        name=fields.string("general.name", file.path.stem),
        source="gguf",
        vocab_size=_vocab_size(file),
        hidden_size=hidden_size,
        intermediate_size=fields.integer(f"{arch}.feed_forward_length"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=fields.integer(f"{arch}.attention.head_count_kv", num_heads),
        head_dim=head_dim,
        context_length=context_length,
        norm_eps=fields.number(f"{arch}.attention.layer_norm_rms_epsilon"),
        activation="gelu_tanh" if gemma else "silu",
        rope_dim=fields.integer(f"{arch}.rope.dimension_count", head_dim),
        rope_theta=fields.number(f"{arch}.rope.freq_base", 10_000.0),
        rope_local_theta=fields.number(f"{arch}.rope.freq_base_swa", 10_000.0) if gemma else None,
        rope_scaling=_rope_scaling(file, fields, arch),
        rope_pairing="interleaved" if arch == "llama" else "neox",  # converters permute llama's q and k rows
        attention_scale=_attention_scale(arch, hidden_size, num_heads, head_dim, num_layers),
        attention_bias="blk.0.attn_q.bias" in file.weights,
        sliding_window=window,
        sliding_layers=_sliding_layers(fields, arch, num_layers, window),
        attention_softcap=_softcap(fields, f"{arch}.attn_logit_softcapping"),
        final_softcap=_softcap(fields, f"{arch}.final_logit_softcapping"),
        tie_embeddings="output.weight" not in file.weights,
        embedding_scale=math.sqrt(hidden_size) if gemma else 1.0,
    )


def _vocab_size(file: GgufFile) -> int:
    embedding = file.weights.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError("the tensor 'token_embd.weight' is missing or has no two dimensions; download it again.")
    return embedding.shape[0]


def _bounded_layers(fields: Fields, key: str) -> int:
    num_layers = fields.integer(key)
    if not 1 <= num_layers <= 1024:  # per-layer tuples are built before ModelSpec checks its fields
        raise fields.wrong(key, num_layers, "between 1 and 1024")
    return num_layers


def _head_dim(fields: Fields, arch: str, hidden_size: int, num_heads: int) -> int:
    if num_heads < 1:
        raise fields.wrong(f"{arch}.attention.head_count", num_heads, "at least 1")
    head_dim = fields.integer(f"{arch}.attention.key_length", hidden_size // num_heads)
    value_dim = fields.integer(f"{arch}.attention.value_length", head_dim)
    if head_dim < 1:
        raise fields.wrong(f"{arch}.attention.key_length", head_dim, "at least 1")
    if value_dim != head_dim:
        raise UnsupportedModelError(f"value heads ({value_dim}) of another size than key heads ({head_dim}).")
    return head_dim


def _attention_scale(arch: str, hidden_size: int, num_heads: int, head_dim: int, num_layers: int) -> float:
    if arch == "gemma3" and num_layers == _GEMMA3_27B_LAYERS and hidden_size > 0:
        # GGUF has no key for query_pre_attn_scalar; only the 27B model's is not its head size.
        return math.sqrt(num_heads / hidden_size)
    return 1.0 / math.sqrt(head_dim)


def _sliding_window(fields: Fields, arch: str) -> int | None:
    return fields.integer(f"{arch}.attention.sliding_window", 0) or None


def _sliding_layers(fields: Fields, arch: str, num_layers: int, window: int | None) -> tuple[bool, ...]:
    if window is None:
        return (False,) * num_layers
    key = f"{arch}.attention.sliding_window_pattern"
    if not fields.is_plain_integer(key) and (pattern := fields.items(key)) is not None:
        if not all(isinstance(local, bool) for local in pattern):
            raise fields.wrong(key, pattern, "a number or a list of booleans")
        return tuple(bool(local) for local in pattern)
    period = fields.integer(key, _GEMMA3_PATTERN if arch == "gemma3" else 0)
    return tuple(period == 0 or (layer + 1) % period != 0 for layer in range(num_layers))


def _softcap(fields: Fields, key: str) -> float | None:
    cap = fields.optional_number(key)
    return None if cap == 0.0 else cap


def _rope_scaling(file: GgufFile, fields: Fields, arch: str) -> RopeScaling:
    prefix = f"{arch}.rope.scaling"
    factor = fields.number(f"{prefix}.factor", fields.number(f"{arch}.rope.scale_linear", 0.0)) or 1.0
    kind = fields.string(f"{prefix}.type", "linear")
    attn_factor = fields.number(f"{prefix}.attn_factor", 1.0)
    if attn_factor != 1.0 and kind in ("none", "linear"):
        raise UnsupportedModelError(f"'{prefix}.attn_factor' is supported with yarn only.")
    tensor = _ROPE_FACTORS if _ROPE_FACTORS in file.weights else None
    if tensor is not None and arch != "llama":  # llama.cpp knows no other, and gemma3's local layers would lack them
        raise UnsupportedModelError(f"'{tensor}' is supported for llama only, not for {arch}.")
    if kind == "none" or (kind == "linear" and factor == 1.0):
        return RopeScaling(freq_factors_tensor=tensor)
    if kind == "linear":
        return RopeScaling(kind="linear", factor=factor, freq_factors_tensor=tensor)
    if kind != "yarn":
        raise UnsupportedModelError(f"rope scaling {brief(kind)} is not supported (supported: none, linear, yarn).")
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=fields.integer(f"{prefix}.original_context_length", 0),
        attention_factor=_yarn_attention_factor(attn_factor, factor),
        beta_fast=fields.number(f"{prefix}.yarn_beta_fast", 32.0),
        beta_slow=fields.number(f"{prefix}.yarn_beta_slow", 1.0),
        freq_factors_tensor=tensor,
    )


def _yarn_attention_factor(file_factor: float, factor: float) -> float | None:
    # GGUF's attn_factor multiplies yarn's own; 1 says nothing new.
    if file_factor == 1.0:
        return None
    return file_factor * (0.1 * math.log(factor) + 1.0 if factor > 1.0 else 1.0)
