"""The graph executed operator by operator in NumPy: the naive oracle of passes, models and the native program.

It knows every operator, fused or not, keeps a plain KV cache without pages, and dequantizes with the `gguf` package, so
it shares no code with what it checks. int8 rows are kept as the floats that their codes and scales stand for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import gguf
import numpy as np
from numpy.typing import NDArray

from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import Graph, Node, Value, Weight
from native.oracles import windows

Array = NDArray[np.floating]


@dataclass
class NumpyBatch:
    """Ragged tokens: rows `offsets[i]:offsets[i + 1]` belong to sequence `sequences[i]`."""

    token_ids: Sequence[int]
    positions: Sequence[int]
    offsets: Sequence[int]
    sequences: Sequence[int]
    logit_rows: Sequence[int]


@dataclass
class NumpyKv:
    """(sequence, layer) → keys and values, each [tokens so far, kv_heads * head_dim]."""

    pages: dict[tuple[int, int], tuple[Array, Array]] = field(default_factory=dict)

    def append(self, sequence: int, layer: int, k: Array, v: Array, start: int) -> None:
        old_k, old_v = self.pages.get((sequence, layer), (k[:0], v[:0]))
        if len(old_k) < start:
            raise ValueError(f"sequence {sequence} skips from position {len(old_k)} to {start}")
        self.pages[sequence, layer] = (np.concatenate([old_k[:start], k]), np.concatenate([old_v[:start], v]))


def dequantize(tensor: Tensor) -> NDArray[np.float32]:
    kind = gguf.GGMLQuantizationType(int(tensor.type))
    rows = tensor.data.reshape(-1, len(tensor.data) // (tensor.shape[0] if len(tensor.shape) > 1 else 1))
    return gguf.dequantize(rows, kind).reshape(tensor.shape)


def quantize_rows(x: Array, dtype: str) -> Array:
    """What quantized rows stand for: per 32 columns, codes rounded to nearest.

    16-bit rows: scale = largest magnitude / 127, and a second code for the rest, in units of scale / 256. int8 rows:
    the four columns with the largest have 16 bits, so that the largest outside is 127 steps, or that of all is 32,512.
    """
    groups = x.reshape(*x.shape[:-1], -1, 32)
    quads = np.sort(np.abs(groups).reshape(*groups.shape[:-1], 8, 4).max(-1), axis=-1)[..., None]
    if dtype != "q16":
        scale = np.maximum(quads[..., -2, :] / 127, quads[..., -1, :] / 32512)
        codes = np.rint(groups / np.where(scale > 0, scale, 1))
        return (codes * scale).astype(x.dtype).reshape(x.shape)
    scale = quads[..., -1, :] / 127
    codes = np.rint(groups / np.where(scale > 0, scale, 1))
    rest = np.clip(np.rint((groups - codes * scale) / np.where(scale > 0, scale / 256, 1)), -128, 127)
    return ((codes + rest / 256) * scale).astype(x.dtype).reshape(x.shape)


def rotate(x: Array, positions: Array, node: Node, graph: Graph) -> Array:
    """Rope on [tokens, heads * head_dim]."""
    table = graph.rope_tables[str(node.attrs["table"])]
    head_dim, rope_dim = int(node.attrs["head_dim"]), int(node.attrs["rope_dim"])
    angles = np.outer(positions, np.array(table.inv_freq)).astype(np.float64)[:, None, :]
    cos, sin = np.cos(angles) * table.mscale, np.sin(angles) * table.mscale
    heads = x.reshape(len(x), -1, head_dim).astype(np.float64)
    half = rope_dim // 2
    if node.attrs["pairing"] == "neox":
        left, right = slice(0, half), slice(half, rope_dim)
    else:
        left, right = slice(0, rope_dim, 2), slice(1, rope_dim, 2)
    a, b, turned = heads[..., left], heads[..., right], heads.copy()
    turned[..., left], turned[..., right] = a * cos - b * sin, b * cos + a * sin
    return turned.astype(x.dtype).reshape(x.shape)


def activate(x: Array, kind: str) -> Array:
    if kind == "silu":
        return x / (1 + np.exp(-x))
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "gelu":
        half = [1 + math.erf(value / math.sqrt(2)) for value in x.reshape(-1).tolist()]
        return 0.5 * x * np.array(half, x.dtype).reshape(x.shape)
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def multiply(x: Array, matrix: Array) -> Array:
    """x @ matrix.T in products of one size, so that no row's rounding depends on how many others there are.

    They are small enough for BLAS to stay on one thread: on a busy machine its threads wait for each other.
    """
    rows, cols = 16, max(1, 2**18 // 16 // matrix.shape[1])
    padded = np.zeros((-(-len(x) // rows) * rows, x.shape[1]), x.dtype)
    padded[: len(x)] = x
    result = np.zeros((len(padded), len(matrix)), x.dtype)
    for i in range(0, len(padded), rows):
        for j in range(0, len(matrix), cols):
            result[i : i + rows, j : j + cols] = padded[i : i + rows] @ matrix[j : j + cols].T
    return result[: len(x)]


class Arena(Protocol):
    """Where values are kept instead of in arrays of their own."""

    def view(self, value: Value, num_rows: int) -> Array: ...


class NumpyProgram:
    """Runs a graph; `dtype` is that of all arithmetic, `arena` where the values are kept."""

    def __init__(
        self, graph: Graph, weights: Mapping[str, Tensor], dtype: type = np.float64, arena: Arena | None = None
    ) -> None:
        self.graph = graph
        self._file = weights
        self._dtype = dtype
        self._arena = arena
        self._cache: dict[str, Array] = {}

    def run(self, batch: NumpyBatch, kv: NumpyKv) -> Array:
        """Logits [len(logit_rows), vocab]."""
        values: dict[Value, Array] = {}

        def num_rows(value: Value) -> int:
            return len(batch.token_ids) if value.rows == "tokens" else len(batch.logit_rows)

        def read(value: Value) -> Array:
            if self._arena is not None:
                return self._arena.view(value, num_rows(value)).copy()
            if value.base is None:
                return values[value]
            return read(value.base)[:, value.column : value.column + value.width]

        for node in self.graph.nodes:
            results = getattr(self, f"_{node.kind}")(node, [read(v) for v in node.inputs], batch, kv)
            for value, result in zip(node.outputs, results, strict=True):
                assert result.shape == (num_rows(value), value.width), (node.kind, value, result.shape)
                values[value] = result if value.dtype == "f32" else quantize_rows(result, value.dtype)
                if self._arena is not None:
                    self._arena.view(value, num_rows(value))[:] = values[value]
        return values[self.graph.logits]

    def _weight(self, weight: Weight) -> Array:
        if weight.tensor not in self._cache:
            self._cache[weight.tensor] = dequantize(self._file[weight.tensor]).astype(self._dtype)
        return self._cache[weight.tensor] + self._dtype(weight.offset)

    def _embedding(self, node, inputs, batch, kv):
        return [self._weight(node.weights[0])[np.array(batch.token_ids)] * self._dtype(node.attrs["scale"])]

    def _add_positions(self, node, inputs, batch, kv):
        positions, types = (self._weight(w) for w in node.weights)
        return [inputs[0] + (positions[np.array(batch.positions)] + types[0])]

    def _norm(self, node, inputs, batch, kv):
        groups = inputs[0].reshape(len(inputs[0]), -1, node.attrs["group"])
        if node.attrs["kind"] == "layer":
            groups = groups - groups.mean(-1, keepdims=True)
        y = groups / np.sqrt((groups**2).mean(-1, keepdims=True) + self._dtype(node.attrs["eps"]))
        if node.attrs["kind"] == "unit":
            return [(y / np.sqrt(self._dtype(node.attrs["group"]))).reshape(inputs[0].shape)]
        y = y * self._weight(node.weights[0])
        y = y if node.weights[1] is None else y + self._weight(node.weights[1])
        return [y.reshape(inputs[0].shape)] * len(node.outputs)

    def _quantize(self, node, inputs, batch, kv):
        return [inputs[0]]

    def _linear(self, node, inputs, batch, kv):
        results = []
        for matrix, bias in zip(node.weights[::2], node.weights[1::2], strict=True):
            y = multiply(inputs[0], self._weight(matrix))
            y = y if bias is None else y + self._weight(bias)
            results.append(y + inputs[1] if len(inputs) > 1 else y)
        return results

    def _gated_linear(self, node, inputs, batch, kv):
        gate, up = (multiply(inputs[0], self._weight(w)) for w in node.weights)
        return [activate(gate, node.attrs["activation"]) * up]

    def _activate(self, node, inputs, batch, kv):
        return [activate(inputs[0], node.attrs["activation"])]

    def _activate_mul(self, node, inputs, batch, kv):
        return [activate(inputs[0], node.attrs["activation"]) * inputs[1]]

    def _rope(self, node, inputs, batch, kv):
        return [rotate(inputs[0], np.array(batch.positions), node, self.graph)]

    def _kv_write(self, node, inputs, batch, kv):
        for i, sequence in enumerate(batch.sequences):
            a, b = batch.offsets[i], batch.offsets[i + 1]
            if a < b:
                kv.append(sequence, node.attrs["layer"], inputs[0][a:b], inputs[1][a:b], batch.positions[a])
        return []

    def _rope_kv(self, node, inputs, batch, kv):
        q, k = (rotate(x, np.array(batch.positions), node, self.graph) for x in inputs[:2])
        self._kv_write(node, [k, inputs[2]], batch, kv)
        return [q]

    def _attention(self, node, inputs, batch, kv):
        result = np.zeros_like(inputs[0])
        for i, sequence in enumerate(batch.sequences):
            a, b = batch.offsets[i], batch.offsets[i + 1]
            if a < b:
                k, v = kv.pages[sequence, node.attrs["layer"]]
                result[a:b] = self._attend(node, inputs[0][a:b], k, v, np.array(batch.positions[a:b]))
        return [result]

    def _attend(self, node: Node, q: Array, k: Array, v: Array, positions: Array) -> Array:
        head_dim, kv_heads = node.attrs["head_dim"], node.attrs["num_kv_heads"]
        q, k, v = (x.reshape(len(x), -1, head_dim).transpose(1, 0, 2) for x in (q, k, v))
        k, v = (np.repeat(x, len(q) // kv_heads, axis=0) for x in (k, v))
        scores = np.einsum("htd,hsd->hts", q, k) * self._dtype(node.attrs["scale"])
        if cap := node.attrs["softcap"]:
            scores = np.tanh(scores / cap) * cap
        distance = positions[:, None] - np.arange(k.shape[1])[None, :]
        visible = distance >= 0
        if window := node.attrs["window"]:
            visible &= distance < window
        scores = np.where(visible, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hts,hsd->thd", weights, v).reshape(q.shape[1], -1)

    def _self_attention(self, node, inputs, batch, kv):
        result, head_dim = np.zeros_like(inputs[0]), node.attrs["head_dim"]
        for a, b in pairwise(batch.offsets):
            q, k, v = (x[a:b].reshape(b - a, -1, head_dim).transpose(1, 0, 2) for x in inputs)
            scores = np.einsum("htd,hsd->hts", q, k) * self._dtype(node.attrs["scale"])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            result[a:b] = np.einsum("hts,hsd->thd", weights, v).reshape(b - a, -1)
        return [result]

    def _mean_pool(self, node, inputs, batch, kv):
        offsets = np.array(batch.offsets)
        ends = np.searchsorted(offsets, np.array(batch.logit_rows, dtype=int), side="right")
        return [np.array([inputs[0][offsets[end - 1] : offsets[end]].mean(0) for end in ends])]

    def _windows(self, node, inputs, batch, kv):
        height, width, line = (int(node.attrs[name]) for name in ("kernel_height", "kernel_width", "line"))
        parts = [windows(inputs[0][a:b], height, width, line) for a, b in pairwise(batch.offsets)]
        return [np.concatenate(parts).reshape(len(inputs[0]), -1)]

    def _depthwise(self, node, inputs, batch, kv):
        height, width, line = (int(node.attrs[name]) for name in ("kernel_height", "kernel_width", "line"))
        filters = self._weight(node.weights[0]).reshape(node.attrs["terms"], height, width, -1)
        parts = [windows(inputs[0][a:b], height, width, line) for a, b in pairwise(batch.offsets)]
        return [np.einsum("thwc,rhwc->trc", np.concatenate(parts), filters).reshape(len(inputs[0]), -1)]

    def _max_pool(self, node, inputs, batch, kv):
        offsets = np.array(batch.offsets)
        ends = np.searchsorted(offsets, np.array(batch.logit_rows, dtype=int), side="right")
        rows = np.concatenate(inputs, axis=1)
        return [np.array([rows[offsets[end - 1] : offsets[end]].max(0) for end in ends])]

    def _add(self, node, inputs, batch, kv):
        return [inputs[0] + inputs[1]]

    def _select_rows(self, node, inputs, batch, kv):
        return [inputs[0][np.array(batch.logit_rows, dtype=int)]]

    def _softcap(self, node, inputs, batch, kv):
        cap = node.attrs["cap"]
        return [np.tanh(inputs[0] / cap) * cap]
