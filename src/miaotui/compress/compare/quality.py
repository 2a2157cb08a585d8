"""Perplexity of every model, and how far each one's distributions are from the first model's.

The reference runs over a batch of windows and its log-probabilities go to disk; then every other model runs over the
same windows. So one model at a time needs to be in memory, and never more than 64 rows of logits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.compare.candidate import Candidate, OpenModel, Step
from miaotui.compress.compare.kept import KeptRows
from miaotui.compress.compare.windows import Window, tokens_of
from miaotui.compress.divergence import Divergence, DivergenceMeter, log_softmax
from miaotui.compress.intervals import Difference, clustered_mean
from miaotui.errors import ModelFileError

ROWS = 64
"""Rows of logits at one time: 39 MB with a vocabulary of 151,936. A whole number of KV pages, so that a window's
earlier tokens are read once."""

MOST = 700.0
"""Nats a token whose perplexity a float still holds."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one model. losses: nats by window; tokens, text_bytes: what they are over, in its own vocabulary.

    divergence: from the reference; None for the reference itself, and where `refused` says why there is none.
    excess: by how many nats a byte it is worse than the reference, from the differences by window; None for that one.
    """

    losses: tuple[float, ...]
    tokens: tuple[int, ...]
    text_bytes: tuple[int, ...]
    divergence: Divergence | None
    refused: str | None
    excess: Difference | None

    @property
    def ppl(self) -> float:
        """Perplexity by token of its own vocabulary."""
        return math.exp(math.fsum(self.losses) / sum(self.tokens))

    @property
    def ppl_interval(self) -> tuple[float, float]:
        """Its 95 % interval, for other texts of this kind: from the spread between windows."""
        mean = clustered_mean(self.losses, self.tokens)
        return math.exp(mean.low), math.exp(mean.high) if mean.high < MOST else math.inf

    @property
    def bits_per_byte(self) -> float:
        """What compares between vocabularies: bits that a byte of text takes."""
        return math.fsum(self.losses) / math.log(2) / sum(self.text_bytes)


@dataclass(slots=True)
class _Tally:
    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    text_bytes: list[int] = field(default_factory=list)
    meter: DivergenceMeter = field(default_factory=DivergenceMeter)

    def add(self, loss: float, num_tokens: int, num_bytes: int) -> None:
        self.losses.append(loss)
        self.tokens.append(num_tokens)
        self.text_bytes.append(num_bytes)


def measure_quality(
    candidates: Sequence[Candidate],
    windows: Sequence[Window],
    *,
    folder: Path,
    scratch_bytes: int,
    step: Step = lambda name, done, total: None,
) -> list[Quality]:
    """Every candidate over every window; the first is the reference, whose ids the windows have.

    folder: for the temporary file, of at most scratch_bytes or one window. Raises OutputError where it has no room,
    ModelFileError for logits that are no numbers, and what the models raise, such as ContextLengthError.
    """
    reference = candidates[0]
    tallies = [_Tally() for _ in candidates]
    total, done = len(windows) * len(candidates), 0
    has_twin = any(other.vocabulary == reference.vocabulary for other in candidates[1:])
    with KeptRows(folder, reference.vocab_size) as kept:
        for batch in _batches(windows, scratch_bytes, reference.vocab_size):
            kept.clear()
            for candidate, tally in zip(candidates, tallies, strict=True):
                first_row = 0
                with candidate.open() as model:
                    for window in batch:
                        step(candidate.name, done, total)
                        ids, first, num_bytes = tokens_of(window, candidate, model, reference.vocabulary)
                        if candidate is reference:
                            loss = _reference_loss(model, ids, first, kept if has_twin else None)
                        elif candidate.vocabulary == reference.vocabulary:
                            loss = _loss_beside(model, ids, first, tally.meter, kept, first_row)
                        else:
                            loss = _reference_loss(model, ids, first, None)
                        if not math.isfinite(loss):
                            raise ModelFileError(f"{candidate.name}: finds no probabilities; its weights are damaged.")
                        tally.add(loss, len(ids) - first, num_bytes)
                        first_row += window.num_scored
                        done += 1
    step("", total, total)
    return [_quality(candidates, tallies, at) for at in range(len(candidates))]


def _batches(windows: Sequence[Window], scratch_bytes: int, vocab_size: int) -> Iterator[list[Window]]:
    """As many windows as the reference's rows may be kept of, and one at least."""
    batch: list[Window] = []
    num_bytes = 0
    for window in windows:
        more = KeptRows.num_bytes(window.num_scored, vocab_size)
        if batch and num_bytes + more > scratch_bytes:
            yield batch
            batch, num_bytes = [], 0
        batch.append(window)
        num_bytes += more
    yield batch


def _rows(model: OpenModel, ids: Sequence[int], first: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Log-probabilities of the tokens from `first` on, some rows at a time, and the tokens that came."""
    starts = [*range(first - 1, len(ids) - 1, ROWS), len(ids) - 1]
    for start, end in pairwise(starts):
        yield log_softmax(model.logits(ids[:end], start)), np.array(ids[start + 1 : end + 1], np.int64)


def _reference_loss(model: OpenModel, ids: Sequence[int], first: int, kept: KeptRows | None) -> float:
    loss = 0.0
    for log_probs, targets in _rows(model, ids, first):
        loss -= float(log_probs[np.arange(len(targets)), targets].sum(dtype=np.float64))
        if kept is not None:
            kept.append(log_probs)
    return loss


def _loss_beside(
    model: OpenModel, ids: Sequence[int], first: int, meter: DivergenceMeter, kept: KeptRows, row: int
) -> float:
    loss = 0.0
    meter.begin_window()
    for log_probs, targets in _rows(model, ids, first):
        reference, best = kept.rows(row, row + len(targets))
        meter.add_log_probs(log_softmax(reference.astype(np.float32)), log_probs, targets, best)
        loss -= float(log_probs[np.arange(len(targets)), targets].sum(dtype=np.float64))
        row += len(targets)
    return loss


def _quality(candidates: Sequence[Candidate], tallies: Sequence[_Tally], at: int) -> Quality:
    tally, first = tallies[at], tallies[0]
    divergence, refused, excess = None, None, None
    if at > 0:
        if candidates[at].vocabulary == candidates[0].vocabulary:
            divergence = tally.meter.result()
        else:
            refused = (
                f"{candidates[at].name} has another vocabulary than {candidates[0].name}: their probabilities are of "
                "different tokens, so there is no KL and no agreement; bits per byte compare."
            )
        differences = [mine - its for mine, its in zip(tally.losses, first.losses, strict=True)]
        excess = clustered_mean(differences, first.text_bytes)
    return Quality(tuple(tally.losses), tuple(tally.tokens), tuple(tally.text_bytes), divergence, refused, excess)
