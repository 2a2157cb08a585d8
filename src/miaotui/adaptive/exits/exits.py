"""Exits of one encoder for one question: its labels, heads behind some layers, and how sure a text must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from miaotui.adaptive.exits.choosing import check_aims
from miaotui.adaptive.exits.head import Head
from miaotui.core import ACTIVATIONS, Activations
from miaotui.engine.embedder import Embedder
from miaotui.errors import ExitsError, InvalidRequestError, brief

MAX_LABELS, MAX_LABEL_CHARACTERS, MAX_HEADS = 256, 1024, 512
HEX_DIGITS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Exits:
    """A text leaves by the first head that gives a label a probability of at least the threshold; None: by the last.

    heads: ascending by layer, the last one behind all layers. model: the encoder's `Embedder.fingerprint`, with these
    activations. floor, confidence: what calibration vouches for. facts: what it saw, for readers.
    Raises ExitsError for values out of range.
    """

    labels: tuple[str, ...]
    heads: tuple[Head, ...]
    threshold: float | None
    model: str
    activations: Activations
    floor: float
    confidence: float
    facts: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 2 <= len(self.labels) <= MAX_LABELS or len(set(self.labels)) < len(self.labels):
            raise _error(f"the labels must be 2 to {MAX_LABELS} different texts, not {brief(list(self.labels))}")
        if not all(isinstance(one, str) and 0 < len(one) <= MAX_LABEL_CHARACTERS for one in self.labels):
            raise _error(f"each label must be a text of 1 to {MAX_LABEL_CHARACTERS} characters")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise _error(f"the threshold must be a probability or none, not {brief(self.threshold)}")
        if len(self.model) != HEX_DIGITS or not set(self.model) <= set("0123456789abcdef"):
            raise _error("the model must be named by its fingerprint")
        if self.activations not in ACTIVATIONS:
            raise _error(f"activations must be one of {', '.join(ACTIVATIONS)}, not {brief(self.activations)}")
        try:
            check_aims(self.floor, self.confidence)
        except InvalidRequestError as error:
            raise _error(str(error).rstrip(".")) from None
        self._check_heads()

    def _check_heads(self) -> None:
        layers = [head.layer for head in self.heads]
        if not 1 <= len(layers) <= MAX_HEADS or layers[0] < 1 or layers != sorted(set(layers)):
            raise _error(f"there must be 1 to {MAX_HEADS} heads, ascending by layer, not behind {brief(layers)}")
        columns = self.heads[0].weights.shape[-1:]
        for head in self.heads:
            if head.weights.shape != (len(self.labels), *columns) or head.bias.shape != (len(self.labels),):
                raise _error(f"the head behind layer {head.layer} has not a row for each label and as many columns")
            if not (np.isfinite(head.weights).all() and np.isfinite(head.bias).all()):
                raise _error(f"the head behind layer {head.layer} holds what is no number")

    @property
    def inner_layers(self) -> tuple[int, ...]:
        """Behind which a text may leave before the end."""
        return tuple(head.layer for head in self.heads[:-1])

    def check(self, embedder: Embedder) -> None:
        """Raises ExitsError unless they were trained on this encoder, as it is run now."""
        found = embedder.fingerprint()
        if found != self.model:
            raise ExitsError(
                f"the exits were trained for another model than {embedder.spec.name} ({found[:12]}, not "
                f"{self.model[:12]}), or for other settings of it (activations {self.activations}): give the model "
                "that they were trained with, or train anew."
            )
        columns, last = self.heads[0].weights.shape[1], self.heads[-1].layer
        if (columns, last) != (embedder.dimensions, embedder.spec.num_layers):
            raise _error(f"the heads are for {last} layers of {columns} columns, which {embedder.spec.name} has not")

    @property
    def may_leave(self) -> bool:
        """Whether any text may leave before the end."""
        return self.threshold is not None and len(self.heads) > 1


def _error(problem: str) -> ExitsError:
    return ExitsError(f"{problem}; train the exits anew.")
