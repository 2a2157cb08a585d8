"""Narrower layers: fewer neurons in the MLPs, fewer groups of heads; the same sizes in every layer.

Neurons are the inputs of `down`, groups of heads those of the attention's output projection; `columns` says which go
(structures and sizes as in Minitron, arXiv:2407.14679, sections 2.2 and 2.3, with the cost of ZipLM). All layers keep
the same number, because readers of GGUF files want one number for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.compress.prune.columns import compensation, least_by_hessian, least_by_moments
from miaotui.compress.prune.dimensions import Dimensions, dimensions
from miaotui.compress.source import Change, Changed, Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import Field, encode_field, encode_u32

MULTIPLE = 64
"""Neurons stay a multiple of it: whole blocks of weights, whole tiles of the kernels."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Told before each layer: its number, and of how many."""


@dataclass(frozen=True, slots=True)
class Widths:
    """How many neurons and groups of heads each layer keeps."""

    neurons: int
    kv_heads: int


def widths(size: Dimensions, share: float, *, kv_heads: int | None = None, multiple: int = MULTIPLE) -> Widths:
    """The most neurons, a multiple of so many, with which the layers lose at least `share` of their weights.

    kv_heads: groups of heads that stay; their weights count towards the share. Raises ConfigError where that is not
    possible.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the share of the layers' weights to leave out must lie between 0 and 1, not {share:g}.")
    kept = size.num_kv_heads if kv_heads is None else kv_heads
    if not 1 <= kept <= size.num_kv_heads:
        raise ConfigError(f"{kept} groups of heads cannot stay; give a number from 1 to {size.num_kv_heads}.")
    attention = size.attention_weights * kept // size.num_kv_heads
    left = (1 - share) * (size.attention_weights + size.mlp_weights) - attention
    neurons = min(int(left / (3 * size.hidden_size)), size.num_neurons) // multiple * multiple
    if neurons < multiple:
        raise ConfigError(
            f"the layers cannot lose {share:.0%} of their weights by width: fewer than {multiple} of "
            f"{size.num_neurons} neurons would stay; ask for less, or leave out layers."
        )
    return Widths(neurons, kept)


def narrowed(
    source: Source, calibration: Calibration, kept: Widths, *, compensate: bool = True, step: Progress | None = None
) -> Changed:
    """The source with narrower layers. Which inputs stay is decided at once, layer by layer; weights follow when read.

    compensate: whether the kept columns make up for the others, where the calibration holds Hessians. Raises
    ConfigError for widths that cannot be, or a calibration that lacks what is needed.
    """
    size = dimensions(source)
    _check(kept, size)
    changes: dict[str, Change | None] = {}
    for layer in range(size.num_layers):
        if step is not None:
            step(layer, size.num_layers)
        block = f"blk.{layer}."
        if kept.neurons < size.num_neurons:
            found = _kept(source, calibration, block + "ffn_down.weight", 1, kept.neurons)
            changes |= _rows(source, [block + "ffn_gate", block + "ffn_up"], found)
            changes |= _inputs(source, calibration, block + "ffn_down.weight", found, compensate)
        if kept.kv_heads < size.num_kv_heads:
            group = size.heads_per_group * size.head_dim
            found = _kept(source, calibration, block + "attn_output.weight", group, kept.kv_heads)
            queries, keys = _spread(found, group), _spread(found, size.head_dim)
            changes |= _rows(source, [block + "attn_q"], queries)
            changes |= _rows(source, [block + "attn_k", block + "attn_v"], keys)
            changes |= _inputs(source, calibration, block + "attn_output.weight", queries, compensate)
    told = {
        "miaotui.prune.width": f"{kept.neurons} of {size.num_neurons} neurons, "
        f"{kept.kv_heads} of {size.num_kv_heads} groups of heads",
        "miaotui.prune.calibration": f"{calibration.digest}, {_method(calibration, compensate)}",
    }
    numbers = _metadata(size, kept)
    metadata: dict[str, object] = {**numbers, **told}
    fields: dict[str, Field | None] = {key: encode_u32(value) for key, value in numbers.items()}
    fields |= {key: encode_field(value) for key, value in told.items()} | {"general.size_label": None}
    return Changed(source, changes, metadata=metadata, fields=fields)


def _method(calibration: Calibration, compensate: bool) -> str:
    """Told in the file, whose interrupted writing is only gone on with under the same header."""
    if not any(inputs.hessian for inputs in calibration.inputs.values()):
        return "by moments"
    return "by Hessians, made up for" if compensate else "by Hessians"


def _check(kept: Widths, size: Dimensions) -> None:
    if not 1 <= kept.neurons <= size.num_neurons or not 1 <= kept.kv_heads <= size.num_kv_heads:
        raise ConfigError(
            f"{kept.neurons} neurons and {kept.kv_heads} groups of heads cannot be kept of {size.num_neurons} and "
            f"{size.num_kv_heads}; give numbers from 1 to these."
        )
    if kept.neurons < size.num_neurons and kept.neurons % MULTIPLE:
        raise ConfigError(f"{kept.neurons} neurons are no multiple of {MULTIPLE}; give one.")
    if kept.kv_heads < size.num_kv_heads and size.architecture == "qwen2":
        raise ConfigError(
            "qwen2's heads cannot be left out: llama.cpp wants its queries as wide as the model; "
            "leave out neurons or layers."
        )
    if kept == Widths(size.num_neurons, size.num_kv_heads):
        raise ConfigError("nothing is to be left out; ask for fewer neurons or groups of heads.")


def _metadata(size: Dimensions, kept: Widths) -> dict[str, int]:
    arch = size.architecture
    numbers = {f"{arch}.feed_forward_length": kept.neurons}
    if kept.kv_heads < size.num_kv_heads:  # a head's width no longer follows from their number
        numbers |= {
            f"{arch}.attention.head_count": kept.kv_heads * size.heads_per_group,
            f"{arch}.attention.head_count_kv": kept.kv_heads,
            f"{arch}.attention.key_length": size.head_dim,
            f"{arch}.attention.value_length": size.head_dim,
        }
    return numbers


def _kept(source: Source, calibration: Calibration, name: str, group: int, keep: int) -> Indices:
    inputs = _statistics(calibration, name)
    weight = source.floats(name)
    source.release(name)
    if inputs.hessian is None:
        return least_by_moments(weight, inputs.moments, group, keep)
    return least_by_hessian(weight, inputs.hessian(), group, keep)


def _statistics(calibration: Calibration, name: str) -> InputStatistics:
    if name not in calibration.inputs:
        raise ConfigError(f"the calibration knows no inputs of '{name}'; calibrate this model.")
    return calibration.inputs[name]


def _rows(source: Source, stems: list[str], kept: Indices) -> Mapping[str, Change | None]:
    """The kept rows of matrices, and their biases where there are any."""
    changes: dict[str, Change | None] = {}
    for name in (f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")):
        if name in source.tensors:
            shape = (len(kept), *source.tensors[name].shape[1:])
            changes[name] = Change(shape, partial(_some_rows, source, name, kept))
    return changes


def _some_rows(source: Source, name: str, kept: Indices, first: int, last: int) -> Floats:
    wanted = kept[first:last]
    if len(source.tensors[name].shape) == 1:
        return source.floats(name)[wanted]
    start = int(wanted[0])
    return source.floats(name, start, int(wanted[-1]) + 1)[wanted - start]


def _inputs(
    source: Source, calibration: Calibration, name: str, kept: Indices, compensate: bool
) -> Mapping[str, Change | None]:
    """The kept columns of a matrix, making up for the others where that can be."""
    hessian = _statistics(calibration, name).hessian

    @lru_cache(maxsize=1)
    def mixed() -> Floats | None:
        return compensation(hessian(), kept) if hessian is not None and compensate else None

    def rows(first: int, last: int) -> Floats:
        weight, mix = source.floats(name, first, last), mixed()
        if last == source.tensors[name].shape[0]:
            mixed.cache_clear()  # one layer's is as large as its weights
        return np.ascontiguousarray(weight[:, kept] if mix is None else weight @ mix)

    return {name: Change((source.tensors[name].shape[0], len(kept)), rows)}


def _spread(groups: Indices, width: int) -> Indices:
    """The rows of groups of so many rows each."""
    rows: Indices = (groups[:, None] * width + np.arange(width)).reshape(-1)
    return rows
