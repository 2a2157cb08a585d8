"""What of torch has to be there, and the arithmetic that is fastest with it here."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Literal

from miaotui.errors import ConfigError

Arithmetic = Literal["float32", "bfloat16"]

_ROWS, _COLUMNS, _RUNS = 512, 1024, 5
_WORTHWHILE = 1.2
"""bfloat16 rounds every product's factors to 8 bits, so that it has to be so many times as fast."""


def require_torch() -> None:
    """Raises ConfigError where torch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise ConfigError("distilling needs torch, which is not here; pip install 'miaotui[train]'.") from None


def fastest_arithmetic() -> Arithmetic:
    """What multiplies matrices fastest on this machine, by measurement; takes some 50 ms."""
    import torch

    taken = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = torch.ones(_ROWS, _COLUMNS, dtype=kind), torch.ones(_COLUMNS, _COLUMNS, dtype=kind)
        taken[kind] = min(_seconds(a, b) for _ in range(_RUNS))
    return "bfloat16" if taken[torch.float32] > _WORTHWHILE * taken[torch.bfloat16] else "float32"


def casting(arithmetic: Arithmetic) -> AbstractContextManager[object]:
    """A context in which torch multiplies matrices that way; weights and sums stay float32."""
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=arithmetic == "bfloat16")


def _seconds(a: object, b: object) -> float:
    start = time.perf_counter()
    a @ b  # type: ignore[operator]
    return time.perf_counter() - start
