"""What heads said of labelled texts, and what would have come of leaving by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

ASKING_LAYERS = 0.1
"""What asking an exit takes, about, in the time of a layer."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """depths [exits + 1]: layers behind which each exit stands, the whole depth last.

    sure [rows, exits]: probability of each exit's label; right [rows, exits + 1]: whether it was wanted; tokens
    [rows]: of each text.
    """

    depths: tuple[int, ...]
    sure: NDArray[np.float64]
    right: Flags
    tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def whole_right(self) -> Flags:
        """Whether the whole depth's label is right."""
        return self.right[:, -1]

    def part(self, begin: int, end: int) -> Seen:
        """Some rows."""
        some = slice(begin, end)
        return replace(self, sure=self.sure[some], right=self.right[some], tokens=self.tokens[some])

    def only(self, exits: Sequence[int]) -> Seen:
        """With these exits alone, by number, and the whole depth."""
        kept = [*exits, len(self.depths) - 1]
        depths = tuple(self.depths[exit] for exit in kept)
        return replace(self, depths=depths, sure=self.sure[:, list(exits)], right=self.right[:, kept])

    def leaving(self, threshold: float | None) -> NDArray[np.int64]:
        """The number of the exit by which each text leaves: the first that is as sure as the threshold."""
        last = len(self.depths) - 1
        if threshold is None or last == 0:
            return np.full(len(self), last)
        passes = self.sure >= threshold
        return np.where(passes.any(axis=1), passes.argmax(axis=1), last)

    def early_right(self, threshold: float | None) -> Flags:
        """Whether the label is right that each text leaves with."""
        return np.asarray(self.right[np.arange(len(self)), self.leaving(threshold)])

    def lost_and_won(self, threshold: float | None) -> tuple[int, int]:
        """How many rows only the whole depth has right, and how many only the early label."""
        early, whole = self.early_right(threshold), self.whole_right
        return int((whole & ~early).sum()), int((early & ~whole).sum())

    def work(self, threshold: float | None) -> NDArray[np.float64]:
        """Layers times tokens of each row, asking included; without a threshold, those of the whole depth."""
        left = self.leaving(threshold)
        asked = np.zeros(len(self)) if threshold is None else np.minimum(left + 1, len(self.depths) - 1)
        return np.asarray(self.tokens * (np.array(self.depths)[left] + ASKING_LAYERS * asked))
