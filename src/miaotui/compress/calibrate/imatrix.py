"""llama.cpp's importance matrices as GGUF files: sums of x² for each input of a matrix, and how many x there were.

Format: tools/imatrix/imatrix.cpp of https://github.com/ggml-org/llama.cpp (`save_imatrix`): general.type is "imatrix";
for each matrix NAME a tensor NAME.in_sum2 [matrices, columns] and one NAME.counts [matrices, 1], both float32; other
tensors are ignored by its readers. More than one matrix means experts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.gguf import GgufFile
from miaotui.formats.gguf_values import ARRAY, STRING
from miaotui.formats.gguf_write import encode_field, encode_u32
from miaotui.formats.weights import Tensor, TensorType

Floats = NDArray[np.float32]

SUMS, COUNTS = ".in_sum2", ".counts"
MAX_COUNT = 2**40


def imatrix_fields(tokens: int, chunk_tokens: int, datasets: Sequence[str]) -> dict[str, bytes]:
    """The metadata of an importance matrix over so many tokens, read in chunks of about `chunk_tokens`."""
    encoded = [name.encode("utf-8", "replace") for name in datasets]
    names = b"".join(struct.pack("<Q", len(name)) + name for name in encoded)
    return {
        "general.type": encode_field("imatrix"),
        "imatrix.datasets": struct.pack("<IIQ", ARRAY, STRING, len(datasets)) + names,
        "imatrix.chunk_count": encode_u32(-(-tokens // chunk_tokens)),
        "imatrix.chunk_size": encode_u32(chunk_tokens),
    }


def imatrix_tensors(inputs: Mapping[str, InputStatistics]) -> dict[str, Floats]:
    """Sums and counts of every matrix, by tensor name."""
    tensors: dict[str, Floats] = {}
    for name, one in inputs.items():
        tensors[name + SUMS] = (one.moments.astype(np.float64) * one.tokens).astype(np.float32)[None, :]
        tensors[name + COUNTS] = np.full((1, 1), one.tokens, np.float32)
    return tensors


def read_imatrix(file: GgufFile) -> dict[str, InputStatistics]:
    """The moments of every matrix that was fed anything.

    Raises ModelFileError for a file that holds none, or figures that cannot be; UnsupportedModelError for experts.
    """
    names = [name.removesuffix(SUMS) for name in file.weights if name.endswith(SUMS)]
    counted = {name.removesuffix(COUNTS) for name in file.weights if name.endswith(COUNTS)}
    if not names:
        raise ModelFileError(f"{file.path}: holds no sums of inputs; give a calibration or an importance matrix.")
    if alone := sorted(counted.symmetric_difference(names)):
        raise ModelFileError(f"{file.path}: has only sums or only counts of {alone[0]!r:.80}; make it again.")
    inputs: dict[str, InputStatistics] = {}
    for name in names:
        sums = figures(file.path, file.weights[name + SUMS])
        counts = figures(file.path, file.weights[name + COUNTS]).reshape(-1)
        columns = sums.shape[-1]
        if len(counts) != 1 or sums.size != columns:
            raise UnsupportedModelError(
                f"{file.path}: {name!r:.80} has experts, and models with experts are not supported."
            )
        tokens = _count(file.path, name, float(counts[0]))
        if tokens:
            moments = (sums.reshape(-1).astype(np.float64) / tokens).astype(np.float32)
            inputs[name] = InputStatistics(tokens, moments_of(file.path, name, moments))
    return inputs


def figures(path: Path, tensor: Tensor) -> Floats:
    """A copy of a tensor's float32 values. Raises ModelFileError for other types, and for what is not finite."""
    if tensor.type is not TensorType.F32:
        raise ModelFileError(f"{path}: {tensor.name!r:.80} is {tensor.type.name}, not F32; make the file again.")
    values = tensor.to_float32()
    if not np.isfinite(values).all():
        raise ModelFileError(f"{path}: {tensor.name!r:.80} holds figures that are not finite; make the file again.")
    return values


def moments_of(path: Path, name: str, moments: Floats) -> Floats:
    """The same. Raises ModelFileError for what no mean of squares can be."""
    if not np.isfinite(moments).all() or (moments < 0).any():
        raise ModelFileError(f"{path}: the sums of {name!r:.80} are no sums of squares; make the file again.")
    return moments


def _count(path: Path, name: str, count: float) -> int:
    if not 0 <= count <= MAX_COUNT or count != int(count):
        raise ModelFileError(f"{path}: {name!r:.80} was fed {count} times, which cannot be; make the file again.")
    return int(count)
