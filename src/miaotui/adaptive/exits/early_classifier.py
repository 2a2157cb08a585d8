"""`EarlyClassifier`: labels of texts from an encoder that each text leaves as soon as its label is sure enough."""

from __future__ import annotations

import os
from collections.abc import Sequence as Row
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.exits.exits import Exits
from miaotui.adaptive.exits.head import Floats, surest
from miaotui.engine.cut_encoder import CutEncoder
from miaotui.engine.embedder import TEXTS_AT_ONCE, Embedder, Vectors, check_texts
from miaotui.formats import ModelFile


@dataclass(frozen=True, slots=True)
class Classified:
    """label, and its probability; layers: how many the text went through."""

    label: str
    probability: float
    layers: int


class EarlyClassifier:
    """A frozen encoder with exits. A context manager; `close` frees its memory.

    model: as of `Embedder`, or one that is open, which then belongs to it; it runs with the exits' activations.

    A text's label, probability and layers do not depend on the texts beside it, to the bit. Methods may be called from
    several threads. Raises ExitsError for exits of another model, and what `Embedder` raises.
    """

    def __init__(self, model: str | os.PathLike[str] | ModelFile | Embedder, exits: Exits) -> None:
        self.exits = exits
        self.embedder = model if isinstance(model, Embedder) else Embedder(model, activations=exits.activations)
        try:
            exits.check(self.embedder)
            self._encoder = CutEncoder(self.embedder, exits.inner_layers) if exits.may_leave else None
        except BaseException:
            self.close()
            raise

    def classify(self, texts: Row[str], *, whole: bool = False, truncate: bool = False) -> list[Classified]:
        """What each text is, in order.

        whole: have every text go through all layers, in one program. truncate: whether texts that are too long are cut.
        Raises as `Embedder.embed` does.
        """
        check_texts(texts)
        found: list[Classified] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            found += self.classify_ids(self.embedder.encode(some, truncate=truncate, first=start), whole=whole)
        return found

    def classify_ids(self, token_ids: Row[Row[int]], *, whole: bool = False) -> list[Classified]:
        """The same of encoded texts."""
        threshold = self.exits.threshold
        if whole or self._encoder is None or threshold is None:
            labels, shares = surest(self.exits.heads[-1].scores(self.embedder.vectors(token_ids)))
            exits = np.full(len(labels), len(self.exits.heads) - 1)
        else:
            labels, shares, exits = self._leave(self._encoder, threshold, token_ids)
        names, heads = self.exits.labels, self.exits.heads
        return [
            Classified(names[label], float(share), heads[exit].layer)
            for label, share, exit in zip(labels, shares, exits, strict=True)
        ]

    def _leave(
        self, encoder: CutEncoder, threshold: float, token_ids: Row[Row[int]]
    ) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
        """Label, its probability and the exit of each text."""
        count = len(token_ids)
        labels, shares, exits = np.zeros(count, np.int64), np.zeros(count), np.zeros(count, np.int64)

        def leave(exit: int, numbers: NDArray[np.int64], vectors: Vectors) -> NDArray[np.bool_]:
            labels[numbers], shares[numbers] = surest(self.exits.heads[exit].scores(vectors))
            exits[numbers] = exit
            return np.asarray(shares[numbers] >= threshold)

        encoder.walk(token_ids, leave)
        return labels, shares, exits

    def close(self) -> None:
        """Close the encoder. Harmless when repeated."""
        self.embedder.close()

    def __enter__(self) -> EarlyClassifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
