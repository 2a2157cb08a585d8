"""Exits from labelled texts: heads from some of them, which exits to have from others, and how sure from the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.exits.choosing import Calibration, calibrate, check_aims, choose_exits
from miaotui.adaptive.exits.exits import MAX_LABELS, Exits
from miaotui.adaptive.exits.fitting import fit
from miaotui.adaptive.exits.head import Head, surest
from miaotui.adaptive.exits.seen import Seen
from miaotui.core import Activations
from miaotui.engine.cut_encoder import CutEncoder, check_layers
from miaotui.engine.embedder import TEXTS_AT_ONCE, Embedder, Vectors
from miaotui.engine.kv_memory import available_memory_bytes
from miaotui.errors import CapacityError, InvalidRequestError, brief

FITTED, JUDGED = 0.45, 0.1
"""Shares of the rows that heads are fitted to, and judged by; thresholds are calibrated on the rest."""
LEAST_ROWS, MAX_ROWS = 20, 100_000
SEED = 0
Labelled = tuple[str, str]
"""A text and its label."""
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """exits: to be saved; calibration: what is known of them."""

    exits: Exits
    calibration: Calibration


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Heads behind layers, and what they say of texts that they were not fitted to.

    judged: rows that decide which exits there are; rest: those that thresholds are calibrated on. facts: for readers.
    model, activations: of the encoder, as `Exits` has them. keeps_all: whether all heads are to have an exit.
    """

    labels: tuple[str, ...]
    heads: tuple[Head, ...]
    judged: Seen
    rest: Seen
    model: str
    activations: Activations
    keeps_all: bool
    facts: Mapping[str, float | str]

    def trained(self, floor: float, confidence: float) -> Trained:
        """Exits that keep a floor. Raises InvalidRequestError as `check_aims`."""
        check_aims(floor, confidence)
        kept = list(range(len(self.heads) - 1)) if self.keeps_all else choose_exits(self.judged, floor)
        calibration = calibrate(self.rest.only(kept), floor, confidence)
        told = {name: fact for name, fact in calibration.facts().items() if isinstance(fact, int | float | str)}
        exits = Exits(
            self.labels,
            (*(self.heads[exit] for exit in kept), self.heads[-1]),
            calibration.threshold,
            self.model,
            self.activations,
            floor,
            confidence,
            {**told, **self.facts},
        )
        return Trained(exits, calibration)


def train(
    embedder: Embedder,
    rows: Row[Labelled],
    *,
    floor: float = 0.99,
    confidence: float = 0.95,
    layers: Row[int] | None = None,
    truncate: bool = False,
    step: Step = lambda done, total: None,
) -> Trained:
    """Exits whose accuracy is at least `floor` times the whole depth's, on texts drawn as these, with that confidence.

    layers: behind which texts may leave; None: behind those where the rows say that it pays. The rest as of `learn`.
    """
    check_aims(floor, confidence)
    return learn(embedder, rows, layers=layers, truncate=truncate, step=step).trained(floor, confidence)


def learn(
    embedder: Embedder,
    rows: Row[Labelled],
    *,
    layers: Row[int] | None = None,
    truncate: bool = False,
    step: Step = lambda done, total: None,
) -> Learned:
    """Read labelled texts once, for exits with any floor.

    truncate: whether texts that are too long are cut. step: told how many texts of all have been read.

    Raises InvalidRequestError for too few or too many rows or labels, UnsupportedModelError for a model without layers
    to leave behind, CapacityError for more vectors than there is memory for, ContextLengthError for long texts.
    """
    spec = embedder.spec
    every = check_layers(spec, range(1, spec.num_layers) if layers is None else layers)
    labels = _labels(rows)
    rows = [rows[at] for at in np.random.default_rng(SEED).permutation(len(rows))]
    wanted = np.array([labels.index(label) for _, label in rows])
    fitted, judged = round(FITTED * len(rows)), round((FITTED + JUDGED) * len(rows))
    if missing := sorted(set(range(len(labels))) - set(wanted[:fitted].tolist())):
        raise InvalidRequestError(f"label {brief(labels[missing[0]])} is too rare to learn from; give more rows of it.")
    encoder = CutEncoder(embedder, every)
    _check_memory(len(rows), embedder.dimensions, len(encoder.depths), len(labels))
    vectors, tokens = _vectors(encoder, [text for text, _ in rows], truncate, step)
    heads = [
        fit(depth, (some[:fitted], some[fitted:judged]), (wanted[:fitted], wanted[fitted:judged]), len(labels))
        for depth, some in zip((*every, spec.num_layers), vectors, strict=True)
    ]
    seen = see(heads, [some[fitted:] for some in vectors], wanted[fitted:], tokens[fitted:])
    return Learned(
        tuple(labels),
        tuple(heads),
        seen.part(0, judged - fitted),
        seen.part(judged - fitted, len(seen)),
        embedder.fingerprint(),
        embedder.activations,
        layers is not None,
        {"fitted_rows": fitted, "judged_rows": judged - fitted},
    )


def see(heads: Row[Head], vectors: Row[Vectors], wanted: NDArray[np.int64], tokens: NDArray[np.int64]) -> Seen:
    """What heads say of texts, each from its layer's vectors."""
    found = [surest(head.scores(some)) for head, some in zip(heads, vectors, strict=True)]
    right = np.stack([labels == wanted for labels, _ in found], axis=1)
    sure = np.stack([shares for _, shares in found], axis=1)[:, :-1]
    return Seen(tuple(head.layer for head in heads), sure, right, tokens)


def _labels(rows: Row[Labelled]) -> list[str]:
    """All labels, in order."""
    if not LEAST_ROWS <= len(rows) <= MAX_ROWS:
        raise InvalidRequestError(f"exits are trained on {LEAST_ROWS} to {MAX_ROWS} labelled rows, not {len(rows)}.")
    counts = Counter(label for _, label in rows)
    if not 2 <= len(counts) <= MAX_LABELS:
        raise InvalidRequestError(
            f"exits tell 2 to {MAX_LABELS} labels apart, not {len(counts)}; does each row end with its label?"
        )
    return sorted(counts)


def _check_memory(num_rows: int, width: int, num_exits: int, num_labels: int) -> None:
    """Raise CapacityError where there is less memory than training takes.

    That is the vectors of all exits in float32; while one is fitted, the 0.55 of its rows that are fitted to or judged
    by, about three times in float64 (14 bytes for each row and column); and three tables of scores in float64.
    """
    needed = 4 * num_rows * width * num_exits + 14 * num_rows * width + 3 * 8 * num_rows * num_labels
    available = available_memory_bytes()
    if needed > available:
        raise CapacityError(
            f"the vectors of {num_rows} texts behind {num_exits} layers, and fitting {num_labels} labels to them, take "
            f"{needed >> 20} MiB, but {available >> 20} are available: give fewer rows or layers."
        )


def _vectors(
    encoder: CutEncoder, texts: Row[str], truncate: bool, step: Step
) -> tuple[list[Vectors], NDArray[np.int64]]:
    """Of each exit and the whole depth [texts, columns], and how many tokens each text has."""
    width, num_exits = encoder.embedder.dimensions, len(encoder.depths)
    vectors = [np.empty((len(texts), width), np.float32) for _ in range(num_exits)]
    tokens = np.empty(len(texts), np.int64)
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        step(begin, len(texts))
        ids = encoder.embedder.encode(texts[begin : begin + TEXTS_AT_ONCE], truncate=truncate, first=begin)
        tokens[begin : begin + len(ids)] = [len(one) for one in ids]
        encoder.walk(ids, _keeping(vectors, begin))
    step(len(texts), len(texts))
    return vectors, tokens


def _keeping(vectors: Row[Vectors], begin: int) -> Callable[[int, NDArray[np.int64], Vectors], NDArray[np.bool_]]:
    """Nobody leaves; what each exit gives is kept."""

    def keep(exit: int, numbers: NDArray[np.int64], some: Vectors) -> NDArray[np.bool_]:
        vectors[exit][begin + numbers] = some
        return np.zeros(len(numbers), bool)

    return keep
