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
from miaotui.formats.weights import Tensor, Weights
from miaotui.formats.with_tensors import WithTensors
from miaotui.graph.compile import CompileOptions, compile_graph, pack_matrices
from miaotui.graph.nodes import READ_BY_ROWS, Graph, Value, Weight
from miaotui.graph.pack_cache import Packed
from miaotui.models import build_graph

WINDOW_TOKENS = 256
MAX_WINDOWS = 8
MAX_REFERENCE_BYTES = 256 << 20
"""For the whole model's logits, which bound how many positions are compared. As float32: half precision would add more
to a KL than a single matrix in 5 bits does."""


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
        return self._kl(without_layers(self._graph, layers), self._packed)

    def kl_with(self, changes: Mapping[str, Blocks]) -> float:
        """The same for the model with some matrices, by the names in its file, replaced wherever they are read."""
        multiplied = {name: blocks for name, blocks in changes.items() if name in self._packed}
        items = [(int(blocks.type), blocks.data, *blocks.shape) for blocks in multiplied.values()]
        packed = dict(zip(multiplied, _native.pack_weights(items), strict=True))
        others = {name: Tensor(name, blocks.type, blocks.shape, blocks.data) for name, blocks in changes.items()}
        graph = _reading(self._graph, others)
        return self._kl(graph, {**self._packed, **packed}, WithTensors(self._file.weights, others))

    def _kl(self, graph: Graph, packed: Packed, weights: Weights | None = None) -> float:
        meter = DivergenceMeter()
        for window, reference, logits in zip(
            self._windows, self._reference, self._logits(graph, packed, weights), strict=True
        ):
            meter.add(reference, logits, window[self._rows + 1].astype(np.int64))
        return meter.result().kl

    def _logits(self, graph: Graph, packed: Packed, weights: Weights | None = None) -> list[NDArray[np.float32]]:
        program = compile_graph(graph, weights or self._file.weights, options=self._options, packed=packed).program
        positions = np.arange(WINDOW_TOKENS, dtype=np.int32)
        offsets = np.array([0, WINDOW_TOKENS], np.int32)
        found = []
        for window in self._windows:
            program.run(self._kv, window, positions, offsets, self._table, self._rows)
            found.append(program.logits.copy())
        return found


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
