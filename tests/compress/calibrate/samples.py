"""A calibration of random figures."""

from __future__ import annotations

import numpy as np

from miaotui.compress.calibrate.digest import contents_digest
from miaotui.compress.calibration import Calibration, InputStatistics

COLUMNS, TOKENS = 64, 1000


def sample(*, hessians: bool = True) -> Calibration:
    rng = np.random.default_rng(4)

    def one(tokens: int = TOKENS) -> InputStatistics:
        x = rng.normal(size=(200, COLUMNS)).astype(np.float32)
        hessian = x.T @ x / np.float32(200)
        return InputStatistics(
            tokens,
            np.square(x).mean(axis=0),
            np.abs(x).mean(axis=0),
            (lambda: hessian) if hessians else None,
            x.min(axis=0),
            x.max(axis=0),
        )

    shared, down = one(), one()
    inputs = {
        "blk.0.ffn_gate.weight": shared,
        "blk.0.ffn_up.weight": shared,
        "blk.0.ffn_down.weight": down,
        "blk.1.ffn_down.weight": one(TOKENS // 2),
    }
    influence = rng.uniform(size=2).astype(np.float32)
    return Calibration("a" * 64, TOKENS, inputs, influence, contents_digest("a" * 64, TOKENS, inputs, influence))
