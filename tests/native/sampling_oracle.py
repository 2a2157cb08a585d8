"""The sampler said plainly in NumPy: sort everything, double precision. Oracle and documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MASK32 = 0xFFFFFFFF


def philox(counter: tuple[int, int, int, int], key: int) -> tuple[int, int, int, int]:
    """Philox-4x32-10 (Salmon et al., SC 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & MASK32, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def uniform(seed: int, stream: int, position: int) -> float:
    high, low, _, _ = philox((position & MASK32, position >> 32, stream, 0), seed)
    return ((high << 32 | low) >> 11) * 2.0**-53


@dataclass
class Oracle:
    vocab_size: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stream: int = 0
    min_tokens: int = 0
    masked_ids: Sequence[int] = ()
    logit_bias: Sequence[tuple[int, float]] = ()
    prompt: Sequence[int] = ()
    output: list[int] = field(default_factory=list)

    def adjusted(self, logits: np.ndarray) -> np.ndarray:
        """Logits after bias, penalties and mask, as float32 like the native ones."""
        x = logits.astype(np.float32).copy()
        for token, bias in self.logit_bias:
            x[token] += np.float32(bias)
        counts = Counter(self.output)
        for token in {*self.prompt, *self.output}:
            x[token] = (
                x[token] / np.float32(self.repetition_penalty)
                if x[token] > 0
                else x[token] * np.float32(self.repetition_penalty)
            )
            x[token] -= np.float32(self.frequency_penalty) * np.float32(counts[token])
            if counts[token]:
                x[token] -= np.float32(self.presence_penalty)
        if len(self.output) < self.min_tokens:
            x[list(self.masked_ids)] = -np.inf
        return x

    def kept(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Ids that may be drawn (ascending), their probabilities, and whether a threshold fell between two tokens by
        more than rounding could move it."""
        x = self.adjusted(logits)
        order = np.lexsort((np.arange(len(x)), -x))  # by logit descending, then id
        if self.temperature < 1e-5:
            return order[:1], np.ones(1), True
        weights = np.exp((x[order].astype(np.float64) - x.max()) / np.float32(self.temperature))
        clear = True
        if 0 < self.top_k < len(x):
            order, weights = order[: self.top_k], weights[: self.top_k]
        if self.top_p < 1.0:
            reached = np.cumsum(weights) / weights.sum()
            count = int(np.searchsorted(reached, np.float32(self.top_p))) + 1
            clear &= bool(np.abs(reached - np.float32(self.top_p)).min() > 1e-5)
            order, weights = order[:count], weights[:count]
        clear &= bool(np.abs(weights - np.float32(self.min_p)).min() > 1e-6) or self.min_p == 0.0
        clear &= bool(np.abs(np.log(weights + 1e-300) + 87).min() > 1e-3)  # below e^-87 the native weights are 0
        keep = (weights >= np.float32(self.min_p)) & (weights > np.exp(-87.0))
        order, weights = order[keep], weights[keep]
        ascending = np.argsort(order)
        return order[ascending], weights[ascending] / weights.sum(), clear

    def sample(self, logits: np.ndarray) -> tuple[int, bool]:
        """The token, and whether neither a threshold nor the draw was a matter of rounding."""
        ids, probabilities, clear = self.kept(logits)
        edges = np.cumsum(probabilities)
        share = uniform(self.seed, self.stream, len(self.output))
        clear &= bool(np.abs(edges[:-1] - share).min() > 1e-5) if len(edges) > 1 else True
        return int(ids[min(int(np.searchsorted(edges, share, side="right")), len(ids) - 1)]), clear
