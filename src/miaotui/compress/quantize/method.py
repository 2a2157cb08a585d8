"""What a quantization method is: it looks at a matrix's inputs once, then turns rows into a file's blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.formats.weights import TensorType

Quantizer = Callable[[NDArray[np.float32]], NDArray[np.uint8]]
"""Rows [rows, columns] of a matrix to the bytes of their blocks, in order. Rows do not depend on one another."""


class Method(Protocol):
    """One of the modules beside this one.

    Raises ConfigError where it needs statistics that are not there.
    """

    def quantizer(self, kind: TensorType, columns: int, statistics: InputStatistics | None) -> Quantizer:
        """What quantizes rows of a matrix with that many columns, whole blocks of `kind`."""
