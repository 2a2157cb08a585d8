"""One way to run a model chunk by chunk, whether the NumPy interpreter or the native program does the work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from miaotui import _native
from miaotui.formats import ModelFile
from miaotui.formats.spec import ModelSpec
from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import Graph
from miaotui.graph.passes import optimize

Chunk = tuple[int, Sequence[int]]
"""Sequence id and its next tokens."""

BACKENDS = ["numpy", "native"]


class Model(Protocol):
    """What a session needs to know."""

    @property
    def file(self) -> ModelFile: ...
    @property
    def graph(self) -> Graph: ...


class Session(Protocol):
    """Keeps positions and KV of its sequences; `step` returns the logits of every token given."""

    def step(self, chunks: Sequence[Chunk]) -> np.ndarray: ...


@contextmanager
def open_session(backend: str, model: Model, *, activations: str, **options: Any) -> Iterator[Session]:
    """`options` are those of CompileOptions; the interpreter knows `disabled_passes` only."""
    if backend == "native":
        yield NativeSession(model.graph, model.file.weights, model.file.spec, activations=activations, **options)
    else:
        yield NumpySession(optimize(model.graph, activations=activations, **options), model.file.weights)


class NumpySession:
    """The interpreter, in float64."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]) -> None:
        self._program = NumpyProgram(graph, weights)
        self._kv = NumpyKv()
        self._lengths: dict[int, int] = {}

    def step(self, chunks: Sequence[Chunk]) -> np.ndarray:
        return self._program.run(make_batch(chunks, self._lengths), self._kv)


class NativeSession:
    """The native program, with float32 KV pages handed out as sequences grow."""

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, Tensor],
        spec: ModelSpec,
        *,
        num_blocks: int = 64,
        kv_dtype: str = "f32",
        **options: Any,
    ) -> None:
        from miaotui.graph.compile import CompileOptions, compile_graph

        options = {"max_tokens": 256, "max_sequences": 8, "max_logit_rows": 256, **options}
        self.compiled = compile_graph(graph, weights, options=CompileOptions(**options))
        self._kv = _native.KvPool(spec.num_layers, spec.num_kv_heads, spec.head_dim, num_blocks, kv_dtype)
        self._lengths: dict[int, int] = {}
        self._blocks: dict[int, list[int]] = {}
        # Scattered pages, so that nothing can rely on neighbours.
        self._free = np.random.default_rng(0).permutation(num_blocks).tolist()

    def step(self, chunks: Sequence[Chunk], logit_rows: Sequence[int] | None = None) -> np.ndarray:
        batch = make_batch(chunks, self._lengths)
        tables = [self._grow(sequence) for sequence, _ in chunks]
        width = max(map(len, tables))
        as_int32 = lambda numbers: np.array(numbers, np.int32)  # noqa: E731
        self.compiled.program.run(
            self._kv,
            as_int32(batch.token_ids),
            as_int32(batch.positions),
            as_int32(batch.offsets),
            as_int32([table + [0] * (width - len(table)) for table in tables]),
            as_int32(batch.logit_rows if logit_rows is None else logit_rows),
        )
        return np.array(self.compiled.program.logits)

    def _grow(self, sequence: int) -> list[int]:
        blocks = self._blocks.setdefault(sequence, [])
        while len(blocks) * _native.KvPool.BLOCK_TOKENS < self._lengths[sequence]:
            blocks.append(self._free.pop())
        return blocks


def make_batch(chunks: Sequence[Chunk], lengths: dict[int, int]) -> NumpyBatch:
    """Ragged batch of the chunks, wanting every row; moves `lengths` on."""
    tokens: list[int] = []
    positions: list[int] = []
    offsets = [0]
    for sequence, chunk in chunks:
        start = lengths.get(sequence, 0)
        tokens += chunk
        positions += range(start, start + len(chunk))
        offsets.append(len(tokens))
        lengths[sequence] = start + len(chunk)
    return NumpyBatch(tokens, positions, offsets, [s for s, _ in chunks], range(len(tokens)))


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over largest magnitude of the reference `b`."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def mean_kl(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over rows of KL(reference b ‖ a), both logits."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    log_a, log_b = (x - x.max(-1, keepdims=True) for x in (a, b))
    log_a, log_b = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (log_a, log_b))
    return float((np.exp(log_b) * (log_b - log_a)).sum(-1).mean())


def top1_agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of rows whose largest logit is at the same place."""
    return float((a.argmax(-1) == b.argmax(-1)).mean())
