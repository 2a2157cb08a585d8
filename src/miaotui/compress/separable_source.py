"""A convolutional text classifier with its convolutions made separable, as a source to be compressed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from miaotui.compress.calibration import Calibration, inputs_of
from miaotui.compress.separable import Floats, Separated, decompose, largest_rank, multiply_adds, rank_for
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError, ModelFileError, UnsupportedModelError
from miaotui.formats.gguf_write import encode_as_converted, encode_field
from miaotui.formats.spec_fields import Fields
from miaotui.formats.spec_text_cnn import RANKS_KEY, spec_from_text_cnn


@dataclass(frozen=True, slots=True)
class SeparatedConvolution:
    """What became of one convolution, [out, in, taps]: rank 0 where whole is cheaper. Multiply-adds are per token."""

    name: str
    shape: tuple[int, ...]
    rank: int
    error: float

    @property
    def before(self) -> int:
        """Multiply-adds of the whole one."""
        return multiply_adds(self.shape)

    @property
    def after(self) -> int:
        """Multiply-adds as it is now."""
        return multiply_adds(self.shape, self.rank)


@dataclass(frozen=True, slots=True)
class SeparableSource:
    """The changed source, and what became of its convolutions."""

    source: Changed
    convolutions: tuple[SeparatedConvolution, ...]


def separable(
    source: Source, *, rank: int = 0, error: float = 0.0, calibration: Calibration | None = None
) -> SeparableSource:
    """Replace whole convolutions: with that rank, or (rank 0) with the least rank whose error is at most `error`.

    A convolution stays whole where that is as cheap. Raises UnsupportedModelError for a model without convolutions or
    with separable ones, ConfigError for a rank below 0 or an error outside 0 … 1 and where nothing would change.
    """
    if rank < 0 or not (rank or 0 < error < 1):
        raise ConfigError(f"separable takes a rank of at least 1 or an error between 0 and 1, not {rank or error}.")
    shapes = _convolutions(source)
    changes: dict[str, Change | None] = {}
    told = []
    for layer, shape in enumerate(shapes):
        name = f"blk.{layer}.conv.weight"
        statistics = inputs_of(calibration, name)
        weight = _weight(source, name, shape)
        chosen = (rank if rank <= largest_rank(shape) else 0) if rank else rank_for(weight, error, statistics)
        if chosen == 0:
            told.append(SeparatedConvolution(name, shape, 0, 0.0))
            continue
        parts = decompose(weight, chosen, statistics)
        changes |= _changes(source, layer, parts)
        told.append(SeparatedConvolution(name, shape, chosen, parts.error))
        source.release(name)
    if not changes:
        raise ConfigError("no convolution gets cheaper with that; take a smaller rank, or allow a larger error.")
    ranks = [one.rank for one in told]
    asked = f"rank {rank}" if rank else f"error {error:g}"
    fields = {RANKS_KEY: encode_as_converted(ranks), "miaotui.compress.separable": encode_field(asked)}
    metadata: Mapping[str, object] = {RANKS_KEY: np.array(ranks, np.int32)}
    return SeparableSource(Changed(source, changes, metadata=metadata, fields=fields), tuple(told))


def _convolutions(source: Source) -> list[tuple[int, int, int]]:
    """[out, in, taps] of each."""
    if source.metadata.get("general.architecture") != "text_cnn":
        raise UnsupportedModelError(f"{source.path}: has no convolutions; only text classifiers (text_cnn) have.")
    embedding = source.tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None else 0
    spec = spec_from_text_cnn(Fields(str(source.path), source.metadata), "", rows)
    if spec.convolutions is None or any(spec.convolutions.ranks):
        raise UnsupportedModelError(f"{source.path}: is separable already; begin with the whole model.")
    return [(spec.intermediate_size, spec.hidden_size, taps) for taps in spec.convolutions.taps]


def _weight(source: Source, name: str, shape: tuple[int, int, int]) -> Floats:
    """A convolution's matrix [out, taps * in] as [out, in, taps]."""
    out, channels, taps = shape
    found = source.tensors[name].shape if name in source.tensors else None
    if found != (out, taps * channels):
        raise ModelFileError(
            f"{source.path}: tensor '{name}' has shape {found}, but the model's settings make it "
            f"{(out, taps * channels)}; the file contradicts itself."
        )
    return source.floats(name).reshape(out, taps, channels).transpose(0, 2, 1)


def _changes(source: Source, layer: int, parts: Separated) -> dict[str, Change | None]:
    prefix = f"blk.{layer}.conv"
    bias = source.floats(f"{prefix}.bias")
    filters = parts.depthwise.reshape(-1)
    return {
        f"{prefix}.weight": None,
        f"{prefix}.bias": None,
        f"{prefix}_depthwise.weight": Change(filters.shape, lambda first, last: filters[first:last]),
        f"{prefix}_pointwise.weight": Change(parts.pointwise.shape, lambda first, last: parts.pointwise[first:last]),
        f"{prefix}_pointwise.bias": Change(bias.shape, lambda first, last: bias[first:last]),
    }
