"""Turns a graph and a model file into a native program: fusion, packed weights, memory plan, operator list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.core import ACTIVATIONS, Activations
from miaotui.errors import ConfigError, ModelFileError
from miaotui.formats.weights import Weights
from miaotui.graph.memory import MemoryPlan, plan_memory
from miaotui.graph.nodes import READ_BY_ROWS, Graph, Node, Value, Weight
from miaotui.graph.pack_cache import PackCache, Packed
from miaotui.graph.passes import PASSES, optimize

PACK_GROUP_BYTES = 32 << 20
"""File bytes packed at a time; their pages are given back before the next group, so peak memory stays near one copy."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How to run a graph. Raises ConfigError for values out of range.

    activations: see `miaotui.core.Activations`.
    disabled_passes: names from `miaotui.graph.passes.PASSES`.
    max_tokens, max_sequences, max_logit_rows: the largest step; they size the arena.
    """

    activations: Activations = "int16"
    disabled_passes: frozenset[str] = frozenset()
    max_tokens: int = 512
    max_sequences: int = 16
    max_logit_rows: int = 16

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATIONS:
            raise ConfigError(f"activations must be one of {', '.join(ACTIVATIONS)}, not {self.activations!r}.")
        for name in ("max_tokens", "max_sequences", "max_logit_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if unknown := sorted(self.disabled_passes - set(PASSES)):
            raise ConfigError(f"unknown fusion pass {', '.join(unknown)}; the passes are {', '.join(PASSES)}.")


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """A native program, the fused graph it runs, and the memory that both take."""

    program: _native.Program
    graph: Graph
    arena_bytes: int
    weight_bytes: int


def pack_matrices(graph: Graph, weights: Weights, pack_cache: PackCache | None = None) -> Packed:
    """Every matrix that the graph multiplies with, by tensor name; what `pack_cache` kept is taken from there.

    Raises ModelFileError when a tensor cannot be packed.
    """
    matrices = graph.multiplied
    packed = pack_cache.find(weights, list(matrices.values())) if pack_cache else None
    if packed is None:
        packed = _pack(matrices.values(), weights)
        if pack_cache:
            pack_cache.keep(weights, packed)
    return packed


def compile_graph(
    graph: Graph,
    weights: Weights,
    *,
    options: CompileOptions | None = None,
    pack_cache: PackCache | None = None,
    packed: Packed | None = None,
) -> CompiledProgram:
    """Fuse, pack (or take `packed`, which may hold more than is needed), plan and build.

    `weights` must stay open while the program lives: the embedding reads its rows from the file's mapping.
    Raises ModelFileError when a tensor cannot be packed.
    """
    options = options or CompileOptions()
    graph = optimize(graph, activations=options.activations, disabled=options.disabled_passes)
    plan = plan_memory(
        graph,
        max_tokens=options.max_tokens,
        max_logit_rows=options.max_logit_rows,
        row_bytes=_native.row_bytes,
    )
    if packed is None:
        packed = pack_matrices(graph, weights, pack_cache)
    builder = _native.ProgramBuilder(options.max_tokens, options.max_sequences, options.max_logit_rows)
    _add_operators(builder, graph, plan, packed, weights)
    program = builder.build(plan.arena_bytes)
    weight_bytes = sum(weight.nbytes for weight in packed.values())
    return CompiledProgram(program, graph, plan.arena_bytes, weight_bytes)


def _add_operators(
    builder: _native.ProgramBuilder,
    graph: Graph,
    plan: MemoryPlan,
    packed: Mapping[str, _native.PackedWeight],
    weights: Weights,
) -> None:
    tables = {
        name: builder.rope_table(np.array(table.inv_freq, np.float32), table.mscale)
        for name, table in graph.rope_tables.items()
    }
    buffers = [builder.buffer(b.value.dtype, b.value.width, b.offset_bytes, b.value.rows) for b in plan.buffers]

    def operand(value: Value) -> tuple[int, int, int]:
        index, column = plan.operands[value]
        return buffers[index], column, value.width

    for node in graph.nodes:
        attrs = dict(node.attrs)
        if "table" in attrs:
            attrs["table"] = tables[str(attrs["table"])]
        inputs, outputs = [operand(v) for v in node.inputs], [operand(v) for v in node.outputs]
        try:
            builder.op(node.kind, inputs, outputs, _native_weights(node, packed, weights), attrs)
        except ModelFileError as error:
            raise ModelFileError(f"{node.label}: {error}") from error


def _native_weights(node: Node, packed: Mapping[str, _native.PackedWeight], weights: Weights) -> list[object]:
    if node.kind in READ_BY_ROWS:
        return [(int(w.type), weights[w.tensor].data, w.num_rows, w.num_cols) for w in node.matrices]
    return [w if w is None else packed[w.tensor] if len(w.shape) > 1 else read_vector(w, weights) for w in node.weights]


def read_vector(weight: Weight, weights: Weights) -> NDArray[np.float32]:
    """A gain or bias as float32, with its offset added."""
    vector = weights[weight.tensor].to_float32().reshape(-1)
    return vector + np.float32(weight.offset) if weight.offset else vector


def _pack(matrices: Iterable[Weight], weights: Weights) -> Packed:
    """Pack every matrix of a linear, by tensor name, giving the file's pages back group by group.

    A matrix larger than a group (a head) comes first: while it is there twice, little else is there yet.
    """
    packed: Packed = {}
    ordered = sorted(matrices, key=lambda w: -w.nbytes if w.nbytes > PACK_GROUP_BYTES else 0)
    for group in _groups(ordered):
        items = [(int(w.type), weights[w.tensor].data, w.num_rows, w.num_cols) for w in group]
        try:
            results = _native.pack_weights(items)
        except ModelFileError as error:
            names = ", ".join(w.tensor for w in group)
            raise ModelFileError(f"cannot pack one of {names}: {error}") from error
        for weight, result in zip(group, results, strict=True):
            packed[weight.tensor] = result
            weights.release(weight.tensor)
    return packed


def _groups(weights: list[Weight]) -> Iterator[list[Weight]]:
    group: list[Weight] = []
    for weight in weights:
        if group and sum(w.nbytes for w in group) + weight.nbytes > PACK_GROUP_BYTES:
            yield group
            group = []
        group.append(weight)
    if group:
        yield group
