"""One way to run a model chunk by chunk, whether the NumPy interpreter or the native program does the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graph.numpy_reference import NumpyBatch, NumpyKv, NumpyProgram
from miaotui.formats.weights import Tensor
from miaotui.graph.nodes import Graph

Chunk = tuple[int, Sequence[int]]
"""Sequence id and its next tokens."""


@dataclass
class NumpySession:
    """Keeps the positions and the KV of any number of sequences; `step` returns the logits of every token given."""

    graph: Graph
    weights: Mapping[str, Tensor]
    dtype: type = np.float64
    lengths: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._program = NumpyProgram(self.graph, self.weights, self.dtype)
        self._kv = NumpyKv()

    def step(self, chunks: Sequence[Chunk]) -> np.ndarray:
        batch = make_batch(chunks, self.lengths)
        return self._program.run(batch, self._kv)


def make_batch(chunks: Sequence[Chunk], lengths: dict[int, int]) -> NumpyBatch:
    """Ragged batch of the chunks, wanting every row; moves `lengths` on."""
    tokens, positions, offsets = [], [], [0]
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
