"""Rope settings of a Hugging Face configuration, in their old and new spellings.

transformers 5 nests them in `rope_parameters` (gemma3: once per layer type); files written before have `rope_theta`,
`rope_scaling` and `rope_local_base_freq` beside each other. Meanings: transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

import math

from miaotui.errors import UnsupportedModelError, brief
from miaotui.formats.spec import RopeScaling
from miaotui.formats.spec_fields import Fields


def rope_parameters(fields: Fields) -> Fields:
    """Settings of the global layers."""
    parameters = fields.section("rope_parameters")
    if "full_attention" in parameters or "sliding_attention" in parameters:
        parameters = parameters.section("full_attention")
    merged = Fields(parameters.source, {**parameters.values, **fields.section("rope_scaling").values})
    for part in (merged, fields):
        if part.number("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedModelError("'partial_rotary_factor' other than 1 is not supported.")
    return merged


def local_rope_theta(fields: Fields) -> float:
    """Rope base of gemma3's local layers, which are never scaled."""
    local = fields.section("rope_parameters").section("sliding_attention")
    if _kind(local) != "default":
        raise UnsupportedModelError("rope scaling of local layers is not supported.")
    return local.number("rope_theta", fields.number("rope_local_base_freq", 10_000.0))


def rope_scaling(rope: Fields, fields: Fields, context_length: int) -> RopeScaling:
    """Scaling of the global layers; raises UnsupportedModelError for a kind other than linear, llama3 and yarn."""
    kind = _kind(rope)
    if kind == "default":
        return RopeScaling()
    if kind == "linear":
        return RopeScaling(kind="linear", factor=rope.number("factor"))
    written = rope.integer("original_max_position_embeddings", context_length)
    original = fields.integer("original_max_position_embeddings", written)
    if kind == "llama3":
        return RopeScaling(
            kind="llama3",
            factor=rope.number("factor"),
            original_context=original,
            low_freq_factor=rope.number("low_freq_factor"),
            high_freq_factor=rope.number("high_freq_factor"),
        )
    if kind == "yarn":
        return _yarn(rope, original, context_length)
    raise UnsupportedModelError(f"rope scaling {brief(kind)} is not supported (supported: linear, llama3, yarn).")


def _kind(rope: Fields) -> str:
    return rope.string("rope_type", rope.string("type", "default"))


def _yarn(rope: Fields, original: int, context_length: int) -> RopeScaling:
    if not rope.boolean("truncate", True):
        raise UnsupportedModelError("yarn without 'truncate' is not supported.")
    if original < 1:
        raise rope.wrong("original_max_position_embeddings", original, "at least 1")
    factor = rope.number("factor", context_length / original)
    return RopeScaling(
        kind="yarn",
        factor=factor,
        original_context=original,
        attention_factor=_attention_factor(rope, factor),
        beta_fast=rope.number("beta_fast", 32.0) or 32.0,
        beta_slow=rope.number("beta_slow", 1.0) or 1.0,
    )


def _attention_factor(rope: Fields, factor: float) -> float | None:
    if "attention_factor" in rope:
        return rope.number("attention_factor")
    mscale, mscale_all = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if mscale <= 0 or mscale_all <= 0 or factor <= 1:
        return None
    log_factor = 0.1 * math.log(factor)
    return (log_factor * mscale + 1.0) / (log_factor * mscale_all + 1.0)
