"""Wanda (arXiv:2306.11695): of each row, the share of weights that matter least becomes 0. NO SPEED ON CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration
from miaotui.compress.prune.mask import Floats, masked
from miaotui.compress.source import Changed, Source
from miaotui.errors import ConfigError


def wanda(source: Source, calibration: Calibration, share: float) -> Changed:
    """See `mask.masked`. Raises ConfigError for a share that is not between 0 and 1."""
    if not 0 < share < 1:
        raise ConfigError(f"the share of weights to make 0 must lie between 0 and 1, not {share:g}.")
    return masked(source, calibration, partial(kept, share=share), f"wanda {share:.0%}")


def kept(matter: Floats, share: float) -> NDArray[np.bool_]:
    """Which weights stay [rows, columns]: in each row all but `share` of them, rounded."""
    gone = round(share * matter.shape[1])
    mask = np.ones(matter.shape, np.bool_)
    np.put_along_axis(mask, np.argsort(matter, axis=1, kind="stable")[:, :gone], False, axis=1)
    return mask
