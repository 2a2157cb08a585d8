"""GGUF metadata of a decoder, from its spec: what `spec_gguf` reads, the other way round."""

from __future__ import annotations

from miaotui.errors import UnsupportedModelError
from miaotui.formats.gguf_write import StandardValue
from miaotui.formats.spec import ModelSpec

WRITTEN = ("llama", "qwen2", "qwen3")


def decoder_metadata(spec: ModelSpec) -> dict[str, StandardValue]:
    """Keys as llama.cpp's converter writes them.

    Raises UnsupportedModelError for what has no key, or none that readers agree on.
    """
    if spec.architecture not in WRITTEN:
        raise UnsupportedModelError(
            f"folders of architecture {spec.architecture!r} are not written as GGUF files (those of "
            f"{', '.join(WRITTEN)} and bert are); take the model as a GGUF file."
        )
    if spec.sliding_window is not None or spec.attention_softcap or spec.final_softcap:
        raise UnsupportedModelError(
            f"a {spec.architecture} model with sliding windows or soft-caps has no form as a GGUF file that other "
            "engines read alike; take the model as a GGUF file."
        )
    values: dict[str, StandardValue] = {
        "block_count": spec.num_layers,
        "context_length": spec.context_length,
        "embedding_length": spec.hidden_size,
        "feed_forward_length": spec.intermediate_size,
        "attention.head_count": spec.num_heads,
        "attention.head_count_kv": spec.num_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": spec.norm_eps,
        "rope.dimension_count": spec.rope_dim,
        "rope.freq_base": spec.rope_theta,
        "vocab_size": spec.vocab_size,
        **_rope_scaling(spec),
    }
    return {f"{spec.architecture}.{key}": value for key, value in values.items()}


def _rope_scaling(spec: ModelSpec) -> dict[str, StandardValue]:
    scaling = spec.rope_scaling
    if scaling.kind in ("none", "llama3"):  # llama3's factors are a tensor
        return {}
    if scaling.attention_factor is not None:
        raise UnsupportedModelError("a yarn of its own attention_factor is not written; take the model as a GGUF file.")
    known: dict[str, StandardValue] = {"rope.scaling.type": scaling.kind, "rope.scaling.factor": scaling.factor}
    if scaling.kind == "yarn":
        known["rope.scaling.original_context_length"] = scaling.original_context or spec.context_length
        known["rope.scaling.yarn_beta_fast"] = scaling.beta_fast
        known["rope.scaling.yarn_beta_slow"] = scaling.beta_slow
    return known
