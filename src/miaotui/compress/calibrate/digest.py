"""What names a calibration in the metadata of what was made with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.formats.store_files import digest_file


def source_digest(files: Sequence[Path]) -> str:
    """The sha256 of a model's file; of several, that of their digests one after the other."""
    digests = [digest_file(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode("ascii")).hexdigest()


def contents_digest(
    source_sha256: str, tokens: int, inputs: Mapping[str, InputStatistics], influence: NDArray[np.float32] | None
) -> str:
    """The sha256 over everything but the Hessians, which the rest was collected with; the same on every machine."""
    digest = hashlib.sha256(f"{source_sha256} {tokens}\n".encode())
    _add(digest, influence)
    for name in sorted(inputs):
        one = inputs[name]
        digest.update(f"{name} {one.tokens}\n".encode())
        for values in (one.moments, one.means, one.lows, one.highs):
            _add(digest, values)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, values: NDArray[np.float32] | None) -> None:
    digest.update(b"-" if values is None else f"{len(values)}:".encode() + values.astype("<f4").tobytes())
