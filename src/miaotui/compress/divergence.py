"""How far a model's distributions are from another's, position by position."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.intervals import Z, clustered_mean, wilson

ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Divergence:
    """What is lost from a reference model to another, over so many predicted tokens.

    kl: mean Kullback-Leibler divergence KL(reference || other) in nats, with its 95 % half-width, from the spread
    between windows, within which neighbouring tokens are alike (of a single window: between its tokens, which is too
    narrow). kl_p99: its 99th percentile. agreement: share of positions where both find the same token most likely, with
    its Wilson 95 % interval. ppl, reference_ppl: perplexities of the text at these positions.
    """

    tokens: int
    kl: float
    kl_halfwidth: float
    kl_p99: float
    agreement: float
    agreement_interval: tuple[float, float]
    ppl: float
    reference_ppl: float


@dataclass(slots=True)
class DivergenceMeter:
    """Takes logits of both models, a stretch of text at a time."""

    _kl: list[float] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _agree: int = 0
    _loss: float = 0.0
    _reference_loss: float = 0.0

    def add(self, reference: NDArray[np.float32], other: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Logits [positions, vocabulary] of both over a window of text, and the tokens [positions] that came."""
        self.begin_window()
        for start in range(0, len(targets), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            p, q = log_softmax(reference[rows]), log_softmax(other[rows])
            self.add_log_probs(p, q, targets[rows], p.argmax(axis=1))

    def begin_window(self) -> None:
        """What is added from here on is of another stretch of text."""
        if not self._starts or self._starts[-1] < len(self._kl):
            self._starts.append(len(self._kl))

    def add_log_probs(
        self, p: NDArray[np.float32], q: NDArray[np.float32], targets: NDArray[np.int64], best: NDArray[np.int64]
    ) -> None:
        """Log-probabilities [positions, vocabulary] of both, the tokens that came, and the reference's most likely."""
        kl: NDArray[np.float64] = np.einsum("ij,ij->i", np.exp(p), p - q, dtype=np.float64)
        self._kl.extend(kl.tolist())
        self._agree += int((best == q.argmax(axis=1)).sum())
        at = np.arange(len(p)), targets
        self._reference_loss -= float(p[at].sum(dtype=np.float64))
        self._loss -= float(q[at].sum(dtype=np.float64))

    def result(self) -> Divergence:
        """The figures so far. Raises ValueError before anything was added."""
        count = len(self._kl)
        if count == 0:
            raise ValueError("nothing was measured.")
        kl = np.array(self._kl)
        share = self._agree / count
        return Divergence(
            tokens=count,
            kl=float(kl.mean()),
            kl_halfwidth=self._halfwidth(kl),
            kl_p99=float(np.quantile(kl, 0.99)),
            agreement=share,
            agreement_interval=wilson(share, count),
            ppl=math.exp(self._loss / count),
            reference_ppl=math.exp(self._reference_loss / count),
        )

    def _halfwidth(self, kl: NDArray[np.float64]) -> float:
        ends = [*self._starts[1:], len(kl)]
        counts = [end - start for start, end in zip(self._starts, ends, strict=True)]
        if len(counts) > 1:
            mean = clustered_mean(np.add.reduceat(kl, self._starts).tolist(), counts)
            return mean.high - mean.value
        return Z * float(kl.std(ddof=1)) / math.sqrt(len(kl)) if len(kl) > 1 else 0.0


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of logits, row by row; the sum is taken in float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    normalized: NDArray[np.float32] = np.subtract(shifted, np.log(total), dtype=np.float32)
    return normalized
