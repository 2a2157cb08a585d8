"""What is trained of a model: its matrices, or low-rank factors beside them; norms and biases in both cases.

Where the result is to be rounded to few bits, the forward pass multiplies with the rounded weights and the gradient
goes to the weights before rounding (straight-through estimation, arXiv:1308.3432, section 4; with low-rank factors
inside what is rounded: arXiv:2402.10631, section 3, and arXiv:2305.17888 for quantization-aware distilling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from miaotui.compress.distil.operators import Weights
from miaotui.compress.distil.rounding import Rounding
from miaotui.compress.source import Source
from miaotui.graph.nodes import Graph

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """Names of the matrices and vectors that learn. Embedding and head do not: they hold most and forget first."""

    matrices: tuple[str, ...]
    vectors: tuple[str, ...]


def trained_tensors(graph: Graph, first_layer: int) -> Trained:
    """All of the layers from `first_layer` on, and the final norm."""
    head = next(node for node in reversed(graph.nodes) if node.kind == "linear")
    kept = {w.tensor for node in graph.nodes if node is head or node.kind == "embedding" for w in node.matrices}
    learning = [n for n in graph.nodes if n.layer is None or n.layer >= first_layer]
    weights = [w for node in learning for w in node.weights if w is not None and w.tensor not in kept]
    matrices = dict.fromkeys(w.tensor for w in weights if len(w.shape) == 2)
    return Trained(tuple(matrices), tuple(dict.fromkeys(w.tensor for w in weights if len(w.shape) == 1)))


class Parameters(Weights, Protocol):
    """The student's weights, of which some learn."""

    def learning(self) -> dict[str, Tensor]:
        """What the optimizer changes, by names of its own."""

    def shifted(self) -> dict[str, Tensor]:
        """What `refresh` changed, which a later start needs to go on with the same bits."""

    def refresh(self, rounding: Rounding) -> None:
        """Take the errors of rounding the weights as they are now into the forward pass."""

    def merged(self, name: str) -> Floats | None:
        """A trained tensor as it is to be written; None for the others."""


class FullParameters:
    """Matrices that learn themselves. Needs 16 bytes for each of their weights, and 4 for all others."""

    def __init__(self, source: Source, trained: Trained, rounding: Rounding) -> None:
        self._values = _read(source, (*trained.matrices, *trained.vectors), rounding)
        self._trained = {name: self._values[name].requires_grad_() for name in (*trained.matrices, *trained.vectors)}
        self._shifts = {
            n: torch.zeros_like(self._values[n], requires_grad=False) for n in trained.matrices if n in rounding
        }

    def tensor(self, name: str) -> Tensor:
        """See `Weights.tensor`."""
        return self._values[name]

    def linear(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        """See `Weights.linear`."""
        matrix, shift = self._values[name], self._shifts.get(name)
        return functional.linear(x, matrix if shift is None else matrix + shift, bias)

    def learning(self) -> dict[str, Tensor]:
        """See `Parameters.learning`."""
        return self._trained

    def shifted(self) -> dict[str, Tensor]:
        """See `Parameters.shifted`."""
        return self._shifts

    def refresh(self, rounding: Rounding) -> None:
        """See `Parameters.refresh`."""
        for name, shift in self._shifts.items():
            shift.copy_(torch.from_numpy(rounding.error(name, self._values[name].detach().numpy())))

    def merged(self, name: str) -> Floats | None:
        """See `Parameters.merged`."""
        return self._trained[name].detach().numpy() if name in self._trained else None


class LoraParameters:
    """Factors beside matrices that stay: y = x Wᵀ + (rank's scale) (x Aᵀ) Bᵀ (LoRA, arXiv:2106.09685, section 4.1).

    The scale is 1/√rank times a constant (arXiv:2312.03732), so that one learning rate suits all ranks. Needs 4 bytes
    for each weight, and 16 for each one of the factors. The file's own matrices are read again where they are needed.
    """

    def __init__(self, source: Source, trained: Trained, rounding: Rounding, rank: int, seed: int) -> None:
        self._source, self._matrices = source, trained.matrices
        self._values = _read(source, (*trained.matrices, *trained.vectors), rounding)
        self._vectors = {name: self._values[name].requires_grad_() for name in trained.vectors}
        self._scale = 4 / math.sqrt(rank)
        self._factors = {name: _factors(self._values[name], rank, seed + at) for at, name in enumerate(self._matrices)}
        self._rounded = tuple(name for name in self._matrices if name in rounding)

    def tensor(self, name: str) -> Tensor:
        """See `Weights.tensor`."""
        return self._values[name]

    def linear(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        """See `Weights.linear`."""
        y = functional.linear(x, self._values[name], bias)
        if name not in self._factors:
            return y
        a, b = self._factors[name]
        return y + functional.linear(functional.linear(x, a), b) * self._scale

    def learning(self) -> dict[str, Tensor]:
        """See `Parameters.learning`."""
        both = zip("ab", zip(*self._factors.values(), strict=True), strict=True)
        named = {
            f"{name}.lora_{which}": f for which, all_of in both for name, f in zip(self._factors, all_of, strict=True)
        }
        return named | self._vectors

    def shifted(self) -> dict[str, Tensor]:
        """See `Parameters.shifted`."""
        return {name: self._values[name] for name in self._rounded}

    def refresh(self, rounding: Rounding) -> None:
        """See `Parameters.refresh`."""
        for name in self._rounded:
            before = self._source.floats(name)
            shifted = before + rounding.error(name, before + self._added(name))
            self._values[name].copy_(torch.from_numpy(shifted))
            self._source.release(name)

    def merged(self, name: str) -> Floats | None:
        """See `Parameters.merged`."""
        if name in self._factors:
            return self._source.floats(name) + self._added(name)
        return self._vectors[name].detach().numpy() if name in self._vectors else None

    def _added(self, name: str) -> Floats:
        a, b = (factor.detach() for factor in self._factors[name])
        product: Floats = ((b @ a) * self._scale).numpy()
        return product


def _factors(matrix: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """A as noise, B as zeros: at first the model is what it was."""
    rows, columns = matrix.shape
    noise = torch.randn(rank, columns, generator=torch.Generator().manual_seed(seed))
    return (noise / math.sqrt(columns)).requires_grad_(), torch.zeros(rows, rank).requires_grad_()


def _read(source: Source, trained: tuple[str, ...], rounding: Rounding) -> dict[str, Tensor]:
    """All tensors as floats; those that do not learn and are written in fewer bits, as they are read back."""
    values: dict[str, Tensor] = {}
    for name in source.tensors:
        floats = source.floats(name)
        if name not in trained and rounding.changes(name):
            floats = floats + rounding.error(name, floats)
        values[name] = torch.from_numpy(floats)
        source.release(name)
    return values


def count(values: Mapping[str, Tensor]) -> int:
    """How many numbers these are."""
    return sum(value.numel() for value in values.values())
