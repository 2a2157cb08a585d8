"""Rotary frequencies and their stretching to longer contexts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError
from miaotui.formats.spec import ModelSpec, RopeScaling
from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import RopeTable

Float = NDArray[np.float64]


def plain_rope_table(rope_dim: int, theta: float) -> RopeTable:
    """Frequencies `theta ** (-2i / rope_dim)` (RoFormer, arXiv:2104.09864, section 3.2.2)."""
    return _table(_plain(rope_dim, theta))


def main_rope_table(spec: ModelSpec, weights: Mapping[str, Tensor]) -> RopeTable:
    """The spec's table: divided by the file's frequency factors if it carries any, then scaled.

    Raises ModelFileError when the factors are unusable.
    """
    scaling = spec.rope_scaling
    inv_freq = _plain(spec.rope_dim, spec.rope_theta)
    if scaling.freq_factors_tensor is not None:
        inv_freq = inv_freq / _freq_factors(scaling.freq_factors_tensor, weights, len(inv_freq))
    if scaling.kind == "linear":
        return _table(inv_freq / scaling.factor)
    if scaling.kind == "llama3":
        return _table(_llama3(inv_freq, scaling, spec.context_length))
    if scaling.kind == "yarn":
        factor = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        mscale = factor if scaling.attention_factor is None else scaling.attention_factor
        return _table(_yarn(inv_freq, scaling, spec), mscale)
    return _table(inv_freq)


def _table(inv_freq: Float, mscale: float = 1.0) -> RopeTable:
    if not np.isfinite(inv_freq).all() or not math.isfinite(mscale):
        raise ModelFileError("the rope settings of the model give infinite frequencies; the file is damaged.")
    return RopeTable(tuple(inv_freq.tolist()), mscale)


def _plain(rope_dim: int, theta: float) -> Float:
    return np.power(float(theta), -np.arange(0, rope_dim, 2, dtype=np.float64) / rope_dim)


def _freq_factors(name: str, weights: Mapping[str, Tensor], length: int) -> Float:
    if name not in weights or weights[name].shape != (length,):
        raise ModelFileError(f"tensor '{name}' must hold {length} rope frequency factors; download the file again.")
    factors = weights[name].to_float32().astype(np.float64)
    if not (factors > 0).all():
        raise ModelFileError(f"tensor '{name}' holds rope factors that are not positive; the file is damaged.")
    return factors


def _llama3(inv_freq: Float, scaling: RopeScaling, context_length: int) -> Float:
    """Llama 3.1: stretch long wavelengths by `factor`, keep short ones, blend between (the model card's reference)."""
    turns = (scaling.original_context or context_length) * inv_freq / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return kept * inv_freq + (1 - kept) * inv_freq / scaling.factor


def _yarn(inv_freq: Float, scaling: RopeScaling, spec: ModelSpec) -> Float:
    """YaRN, "NTK-by-parts" (arXiv:2309.00071, section 3.2), its correction range rounded outwards to whole pairs."""
    context, dim = scaling.original_context or spec.context_length, spec.rope_dim

    def pair_of(rotations: float) -> float:
        return dim * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(spec.rope_theta))

    low = max(math.floor(pair_of(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_of(scaling.beta_slow)), dim - 1)
    width = high - low if high != low else 0.001
    stretched = np.clip((np.arange(len(inv_freq)) - low) / width, 0.0, 1.0)
    blended: Float = stretched * inv_freq / scaling.factor + (1 - stretched) * inv_freq
    return blended
