"""The convolutions of a text classifier: how far each one sees, whether it is whole, and the labels behind them."""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.errors import ModelFileError

MAX_CONVOLUTIONS = 64
MAX_TAPS = 64
"""What the operators take."""
MAX_LABELS = 65_536


@dataclass(frozen=True, slots=True)
class Convolutions:
    """Convolutions side by side over the same tokens. Creating one checks it: ModelFileError.

    taps: tokens of a window, for each of them. ranks: filters of each input column where one is separable, 0 where it
    is whole. labels: what the scores are for.
    """

    taps: tuple[int, ...]
    ranks: tuple[int, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.taps) <= MAX_CONVOLUTIONS:
            raise ModelFileError(f"there are {len(self.taps)} convolutions, but must be 1 to {MAX_CONVOLUTIONS}.")
        if len(self.ranks) != len(self.taps):
            raise ModelFileError(f"{len(self.ranks)} ranks are given for {len(self.taps)} convolutions.")
        for taps, rank in zip(self.taps, self.ranks, strict=True):
            if not 1 <= taps <= MAX_TAPS:
                raise ModelFileError(f"a convolution sees {taps} tokens, but must see 1 to {MAX_TAPS}.")
            if not 0 <= rank <= taps:
                raise ModelFileError(
                    f"a convolution over {taps} tokens has rank {rank}; more than {taps} says nothing."
                )
        if not 1 <= len(self.labels) <= MAX_LABELS:
            raise ModelFileError(f"there are {len(self.labels)} labels, but must be 1 to {MAX_LABELS}.")
