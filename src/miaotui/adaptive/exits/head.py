"""A head: what a layer's vector of a text says of its label, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """layer: how many layers a text has behind it. weights [labels, columns], bias [labels]: float32, calibrated.

    Calibrated: of texts whose label has a probability of p, a share of p has it (Guo et al., arXiv:1706.04599).
    """

    layer: int
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def scores(self, vectors: NDArray[np.float32]) -> Floats:
        """Log-probabilities [texts, labels] but for a constant of each row, whose bits no other row changes."""
        wide = vectors.astype(np.float64)
        columns = [(wide * row).sum(axis=1) for row in self.weights.astype(np.float64)]
        return np.stack(columns, axis=1) + self.bias.astype(np.float64)


def surest(scores: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The likeliest label of each row, the first of equals, and its probability."""
    labels = scores.argmax(axis=1)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return labels, 1.0 / shares.sum(axis=1)
