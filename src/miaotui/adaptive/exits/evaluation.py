"""What exits do on texts that they were not trained on, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import Any

import numpy as np

from miaotui.adaptive.cascade.evaluation import Figure, figure, resampled, share, share_kept
from miaotui.adaptive.exits.early_classifier import EarlyClassifier
from miaotui.adaptive.exits.training import Labelled
from miaotui.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Outcome:
    """whole, early: shares of right labels; kept_accuracy: early in whole. same: share of labels that are the same.

    mean_layers: of texts. leaving: number of layers → share of texts that left behind so many.
    """

    num_rows: int
    whole: Figure
    early: Figure
    kept_accuracy: Figure
    same: Figure
    mean_layers: Figure
    leaving: dict[int, float]

    def facts(self) -> dict[str, Any]:
        """Each figure as [value, low, high]."""
        figures = {name: getattr(self, name) for name in self.__slots__ if name not in ("num_rows", "leaving")}
        rounded = {name: [round(x, 4) for x in (one.value, one.low, one.high)] for name, one in figures.items()}
        return {"num_rows": self.num_rows, **rounded, "leaving": {str(k): round(v, 4) for k, v in self.leaving.items()}}


def evaluate(classifier: EarlyClassifier, rows: Row[Labelled], *, truncate: bool = False) -> Outcome:
    """Both ways on labelled texts. Raises InvalidRequestError for no rows, and what `EarlyClassifier.classify` does."""
    if not rows:
        raise InvalidRequestError("there are no rows to measure the exits on; give them more.")
    texts, wanted = [text for text, _ in rows], [label for _, label in rows]
    whole, early = (classifier.classify(texts, whole=flag, truncate=truncate) for flag in (True, False))
    whole_right, early_right = (
        np.array([one.label == label for one, label in zip(labels, wanted, strict=True)], float)
        for labels in (whole, early)
    )
    same = np.array([one.label == other.label for one, other in zip(early, whole, strict=True)])
    layers = np.array([[one.layers for one in early]], float)
    counts = Counter(one.layers for one in early)
    return Outcome(
        len(rows),
        share(whole_right),
        share(early_right),
        share_kept(early_right, whole_right),
        share(same),
        figure(layers.mean(), resampled(layers)[0]),
        {head.layer: counts[head.layer] / len(rows) for head in classifier.exits.heads},
    )
