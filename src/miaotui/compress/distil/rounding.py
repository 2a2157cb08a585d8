"""What writing a weight in few bits adds to it, so that training can take it into account."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.compress.plan import Choice
from miaotui.compress.quantize import METHODS

Floats = NDArray[np.float32]

_ROWS_WEIGHTS = 1 << 20


class Rounding:
    """The rounding errors of the types that a file's matrices are going to have."""

    def __init__(self, choices: Iterable[Choice], method: str) -> None:
        self._choices = {c.name: c for c in choices if c.after.block_weights > 1 and len(c.shape) == 2}
        self._method = METHODS[method]

    def __contains__(self, name: str) -> bool:
        return name in self._choices

    def changes(self, name: str) -> bool:
        """Whether a matrix that is not trained is rounded all the same."""
        return name in self._choices and self._choices[name].changes

    def error(self, name: str, weights: Floats) -> Floats:
        """What is read back after `weights` [rows, columns] were written, less `weights`."""
        kind = self._choices[name].after
        quantize = self._method.quantizer(kind, weights.shape[1], None)
        step = max(_ROWS_WEIGHTS // weights.shape[1], 1)
        read = [
            _native.dequantize(int(kind), quantize(rows), rows.size)
            for rows in (weights[first : first + step] for first in range(0, len(weights), step))
        ]
        return np.concatenate(read).reshape(weights.shape) - weights
