"""What a change to a model costs, measured in seconds: layers' operators are dropped from the graph, or single matrices
are replaced; nothing else is packed anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.compress.divergence import DivergenceMeter
from miaotui.compress.sensitivity import Blocks
from miaotui.core import Activations
from miaotui.errors import InvalidRequestError
from miaotui.formats import ModelFile
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.weights import Tensor, TensorType
from miaotui.formats.with_tensors import WithTensors
from miaotui.graph.compile import CompileOptions, compile_graph, pack_matrices
from miaotui.graph.cut import cut
from miaotui.graph.nodes import READ_BY_ROWS, Graph, Value, Weight
from miaotui.graph.pack_cache import Packed
from miaotui.models import build_graph

Floats = NDArray[np.float32]

WINDOW_TOKENS = 256
MAX_WINDOWS = 8
MAX_REFERENCE_BYTES = 256 << 20
"""For the whole model's logits, which bound how many positions are compared. As float32: half precision would add more
to a KL than a single matrix in 5 bits does."""
MAX_HELD_BYTES = 256 << 20
"""For what goes from layer to layer in the whole model, so that a trial can begin at the first layer it changes; where
that is more, it is held behind every other layer, or every third …"""
_HELD = "held.rows"


def without_layers(graph: Graph, layers: Collection[int]) -> Graph:
    """An unfused graph whose residual stream goes past some layers; the others keep their numbers and KV pages.

    Raises ValueError where a layer has more than one way in or out.
    """
    same: dict[Value, Value] = {}
    for layer in sorted(set(layers)):
        inside = {value for node in graph.nodes if node.layer == layer for value in node.outputs}
        read = [v.base or v for node in graph.nodes if node.layer == layer for v in node.inputs]
        ways_in = {v for v in read if v not in inside}
        ways_out = {v for node in graph.nodes if node.layer != layer for v in node.inputs if v in inside}
        if len(ways_in) != 1 or len(ways_out) != 1:
            raise ValueError(f"layer {layer} has {len(ways_in)} ways in and {len(ways_out)} out")
        (before,), (after,) = ways_in, ways_out
        same[after] = same.get(before, before)
    nodes = (
        replace(node, inputs=tuple(same.get(v, v) for v in node.inputs))
        for node in graph.nodes
        if node.layer is None or node.layer not in layers
    )
    return Graph(tuple(nodes), graph.rope_tables).validate()


def _reading(graph: Graph, others: Mapping[str, Tensor]) -> Graph:
    """The graph with other types for the matrices whose single rows are read."""

    def other(weight: Weight | None) -> Weight | None:
        return (
            weight
            if weight is None or weight.tensor not in others
            else replace(weight, type=others[weight.tensor].type)
        )

    rows = [node for node in graph.nodes if node.kind in READ_BY_ROWS]
    return graph.replace({node: [replace(node, weights=tuple(map(other, node.weights)))] for node in rows})


class Trials:
    """One model's packed weights and one text, for as many trials as are wanted."""

    def __init__(
        self,
        file: ModelFile,
        token_ids: Sequence[int],
        *,
        bos: int | None = None,
        activations: Activations = "int16",
    ) -> None:
        """Up to 8 windows of 256 tokens are read; in each, positions of the second half are compared.

        bos: takes the place of each window's first token, for models that want to begin with one.

        Raises InvalidRequestError for a text shorter than a window, and what `build_graph` and `pack_matrices` raise.
        """
        self._windows = _windows(token_ids, bos)
        self._file = file
        self._graph = build_graph(file.spec, file.weights)
        self._packed = pack_matrices(self._graph, file.weights)
        share = MAX_REFERENCE_BYTES // (4 * file.spec.vocab_size * len(self._windows))
        half = WINDOW_TOKENS // 2
        num_rows = max(min(half, share), 1)
        self._rows = np.linspace(half - 1, WINDOW_TOKENS - 2, num_rows).astype(np.int32)
        self._options = CompileOptions(
            activations=activations, max_tokens=WINDOW_TOKENS, max_sequences=1, max_logit_rows=num_rows
        )
        num_blocks = -(-WINDOW_TOKENS // _native.KvPool.BLOCK_TOKENS)
        spec = file.spec
        self._kv = _native.KvPool(spec.num_layers, spec.num_kv_heads, spec.head_dim, num_blocks, "f32")
        self._table = np.arange(num_blocks, dtype=np.int32)[None]
        self._reference = self._logits(self._graph, self._packed)
        self._held = self._rows_between_layers()

    @classmethod
    def on_text(cls, file: ModelFile, text: str) -> Trials:
        """Trials on a text in the model's own tokens; raises what the constructor does, and TokenizerError."""
        tokenizer = Tokenizer.from_model(file)
        return cls(file, tokenizer.encode(text), bos=tokenizer.bos_id if tokenizer.add_bos else None)

    @property
    def multiplied(self) -> Set[str]:
        """The matrices that tokens are multiplied with, by name; others are looked up by rows."""
        return self._packed.keys()

    def kl_without(self, layers: Collection[int]) -> float:
        """Mean KL(whole model || model without these layers) in nats."""
        return self._kl(without_layers(self._graph, layers), self._packed, min(layers, default=0))

    def kl_with(self, changes: Mapping[str, Blocks]) -> float:
        """The same for the model with some matrices, by the names in its file, replaced wherever they are read."""
        multiplied = {name: blocks for name, blocks in changes.items() if name in self._packed}
        items = [(int(blocks.type), blocks.data, *blocks.shape) for blocks in multiplied.values()]
        packed = dict(zip(multiplied, _native.pack_weights(items), strict=True))
        others = {name: Tensor(name, blocks.type, blocks.shape, blocks.data) for name, blocks in changes.items()}
        graph = _reading(self._graph, others)
        return self._kl(graph, {**self._packed, **packed}, self._first_layer(changes), others)

    def _first_layer(self, changes: Collection[str]) -> int:
        """The first one that reads any of these matrices; the number of layers where only what is behind them does."""
        nodes = self._graph.nodes
        reading = (at for at, node in enumerate(nodes) if any(weight.tensor in changes for weight in node.matrices))
        first = next(reading, 0)
        layer = nodes[first].layer
        if layer is not None:
            return layer
        return max((node.layer + 1 for node in nodes[:first] if node.layer is not None), default=0)

    def _kl(self, graph: Graph, packed: Packed, first_layer: int, others: Mapping[str, Tensor] | None = None) -> float:
        """Of a graph that is the whole one's before that layer."""
        ids = self._windows
        tensors = dict(others or {})
        behind = max((number for number in self._held if number <= first_layer), default=0)
        if behind:
            rows = self._held[behind]
            graph = cut(graph, [behind], [_HELD], len(rows)).parts[1].graph
            tensors[_HELD] = _as_tensor(rows)
            ids = _numbers(len(self._windows))
        meter = DivergenceMeter()
        for window, reference, logits in zip(
            self._windows, self._reference, self._logits(graph, packed, tensors, ids), strict=True
        ):
            meter.add(reference, logits, window[self._rows + 1].astype(np.int64))
        return meter.result().kl

    def _rows_between_layers(self) -> dict[int, Floats]:
        """What the whole model's first so many layers hand on, [tokens of all windows, width], by that number."""
        num_layers = self._file.spec.num_layers
        num_rows = WINDOW_TOKENS * len(self._windows)
        every = -(-num_layers * num_rows * 4 * self._file.spec.hidden_size // MAX_HELD_BYTES)
        behind = range(every, num_layers + 1, every)
        parts = cut(self._graph, behind, [_HELD] * len(behind), num_rows).parts
        held: dict[int, Floats] = {}
        ids = self._windows
        tensors: dict[str, Tensor] = {}
        all_rows = np.arange(WINDOW_TOKENS, dtype=np.int32)
        for number, part in zip(behind, parts[:-1], strict=True):
            held[number] = np.concatenate(self._logits(part.graph, self._packed, tensors, ids, all_rows))
            ids, tensors = _numbers(len(self._windows)), {_HELD: _as_tensor(held[number])}
        return held

    def _logits(
        self,
        graph: Graph,
        packed: Packed,
        others: Mapping[str, Tensor] | None = None,
        ids: Sequence[NDArray[np.int32]] | None = None,
        rows: NDArray[np.int32] | None = None,
    ) -> list[Floats]:
        """For each window, of some of its rows (default: those that are compared)."""
        rows = self._rows if rows is None else rows
        options = replace(self._options, max_logit_rows=len(rows))
        weights = WithTensors(self._file.weights, others) if others else self._file.weights
        program = compile_graph(graph, weights, options=options, packed=packed).program
        positions = np.arange(WINDOW_TOKENS, dtype=np.int32)
        offsets = np.array([0, WINDOW_TOKENS], np.int32)
        found = []
        for window in self._windows if ids is None else ids:
            program.run(self._kv, window, positions, offsets, self._table, rows)
            found.append(program.logits.copy())
        return found


def _numbers(num_windows: int) -> list[NDArray[np.int32]]:
    """Those of the rows of each window, where all are in one table."""
    return list(np.arange(num_windows * WINDOW_TOKENS, dtype=np.int32).reshape(num_windows, -1))


def _as_tensor(rows: Floats) -> Tensor:
    return Tensor(_HELD, TensorType.F32, rows.shape, rows.reshape(-1).view(np.uint8))


def _windows(token_ids: Sequence[int], bos: int | None) -> list[NDArray[np.int32]]:
    """Spread evenly over the text."""
    total = len(token_ids) // WINDOW_TOKENS
    if total < 1:
        raise InvalidRequestError(
            f"the text has {len(token_ids)} tokens, a window {WINDOW_TOKENS}; give a longer text."
        )
    ids = np.array(token_ids[: total * WINDOW_TOKENS], np.int32).reshape(total, WINDOW_TOKENS)
    if bos is not None:
        ids[:, 0] = bos
    return list(ids[np.linspace(0, total - 1, min(total, MAX_WINDOWS)).astype(int)])
