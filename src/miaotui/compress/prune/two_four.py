"""2:4 (arXiv:2104.08378, section 3): of every 4 consecutive weights of a row, the 2 that matter least become 0.

The pattern that some GPUs multiply faster. NO SPEED ON CPU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration
from miaotui.compress.prune.mask import Floats, masked
from miaotui.compress.source import Changed, Source


def two_four(source: Source, calibration: Calibration) -> Changed:
    """See `mask.masked`."""
    return masked(source, calibration, kept, "2:4")


def kept(matter: Floats) -> NDArray[np.bool_]:
    """Which weights stay [rows, columns]; columns come in fours."""
    fours = matter.reshape(-1, 4)
    mask = np.zeros(fours.shape, np.bool_)
    np.put_along_axis(mask, np.argsort(fours, axis=1, kind="stable")[:, 2:], True, axis=1)
    return mask.reshape(matter.shape)
