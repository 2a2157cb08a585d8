"""A quantized matrix plus two narrow factors that make up for most of what quantization does to its outputs.

W ≈ Q(W) + B A (LQER, arXiv:2402.02446, section 3; ASER, arXiv:2411.07762), with the factors that lose least of the
outputs of W - Q(W) for the inputs that calibration saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration, inputs_of
from miaotui.compress.factors import factorize
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

MAX_RANK = 32


@dataclass(frozen=True, slots=True)
class Correction:
    """Of the matrix `name`: a [rank, columns] and b [rows, rank], and the share of the error's energy they remove."""

    name: str
    a: Floats
    b: Floats
    removed: float


def check_rank(rank: int) -> None:
    """Raises ConfigError for a rank out of range."""
    if not 1 <= rank <= MAX_RANK:
        raise ConfigError(f"the rank of a correction is 1 to {MAX_RANK}, not {rank}.")


def correctable(source: Source, quantized: Source, rank: int) -> list[str]:
    """The layers' matrices that quantization changed and that are wide enough for factors of that rank to pay.

    Raises ConfigError for a rank out of range.
    """
    check_rank(rank)
    return [
        name
        for name, before in source.tensors.items()
        if name.startswith("blk.") and ".lora_" not in name and len(before.shape) == 2 and name in quantized.tensors
        if quantized.tensors[name].type is not before.type or before.raw is None
        if rank * sum(before.shape) < before.shape[0] * before.shape[1]
    ]


def corrections(
    source: Source, quantized: Source, names: Iterable[str], calibration: Calibration | None, rank: int
) -> Iterator[Correction]:
    """One matrix at a time; both sources give their pages back behind each."""
    for name in names:
        error = source.floats(name) - quantized.floats(name)
        source.release(name)
        quantized.release(name)
        found = factorize(error, inputs_of(calibration, name), rank)
        removed = float(found.energies.sum(dtype=np.float64)) / (found.total or 1.0)
        yield Correction(name, *_balanced(found.right, found.left), removed)


def kind_of_a(columns: int) -> TensorType:
    """8 bits where rows are whole blocks."""
    return TensorType.F16 if columns % TensorType.Q8_0.block_weights else TensorType.Q8_0


def _balanced(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The same product, with both factors' largest weights alike: an error's own factor would drown in float16."""
    most_a, most_b = np.abs(a).max(axis=1), np.abs(b).max(axis=0)
    known = (most_a > 0) & (most_b > 0)
    scale = np.ones_like(most_a)
    np.sqrt(np.divide(most_b, most_a, out=scale, where=known), out=scale)
    return a * scale[:, None], b / scale
