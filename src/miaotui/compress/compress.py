"""A model file with its weights in fewer bits, written tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui import __version__
from miaotui.compress.plan import Choice, plan
from miaotui.compress.quantize import rtn
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.gguf import GgufFile, read_gguf
from miaotui.formats.gguf_write import Field, GgufWriter, PlannedTensor, encode_field, encode_u32
from miaotui.formats.weights import MappedFile, TensorType

CHUNK_WEIGHTS = 1 << 22
"""Weights that are floats at one time."""
_FILE_TYPES = {
    TensorType.F16: 1,
    TensorType.Q4_0: 2,
    TensorType.Q4_1: 3,
    TensorType.Q8_0: 7,
    TensorType.Q5_0: 8,
    TensorType.Q5_1: 9,
    TensorType.Q4_K: 15,
    TensorType.Q6_K: 18,
    TensorType.IQ4_NL: 25,
}
"""llama.cpp's numbers for what most of a file is."""

Step = Callable[[Choice, int, int], None]
"""Told before each tensor: what is done with it, how many bytes of the source are done, of how many."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What `compress` wrote: bytes before and after, and each tensor's types."""

    path: Path
    source_bytes: int
    output_bytes: int
    choices: tuple[Choice, ...]


def compress(source: Path, output: Path, kind: TensorType, *, step: Step | None = None) -> Compressed:
    """Write the model in the GGUF file `source` to `output` with matrices of that type, as a standard GGUF file.

    The file appears when it is whole. Needs memory for some million weights beside the mapped source. Raises what
    `read_gguf` does, ModelFileError for weights that no scale can hold, OutputError where the file cannot be written.
    """
    if output.exists() and output.samefile(source):
        raise ModelFileError(f"{output}: is the source itself; write elsewhere.")
    if source.suffix != ".gguf":
        raise UnsupportedModelError(f"{source}: is no GGUF file; only those are compressed so far.")
    file = read_gguf(source)
    choices = plan(file.weights.values(), kind)
    fields: dict[str, Field] = {**file.fields, **_provenance(file, kind)}
    total = sum(tensor.nbytes for tensor in file.weights.values())
    done = 0
    planned = [PlannedTensor(choice.name, choice.after, choice.shape) for choice in choices]
    with GgufWriter(output, fields, planned) as writer:
        for choice in choices:
            if step is not None:
                step(choice, done, total)
            writer.write(choice.name, _converted(file, choice))
            done += file.weights[choice.name].nbytes
            file.weights.release(choice.name)
    return Compressed(output, file.weights.file_bytes, output.stat().st_size, tuple(choices))


def _converted(file: GgufFile, choice: Choice) -> NDArray[np.uint8]:
    tensor = file.weights[choice.name]
    if not choice.changes:
        return tensor.data
    parts = [_quantized(choice, weights) for weights in _floats(file, choice.name)]
    return np.concatenate(parts)


def _floats(file: GgufFile, name: str) -> Iterator[NDArray[np.float32]]:
    """The tensor's weights, some whole rows at a time."""
    from miaotui import _native

    tensor = file.weights[name]
    columns = tensor.shape[-1]
    row_bytes = tensor.nbytes * columns // tensor.num_weights
    num_rows = max(CHUNK_WEIGHTS // columns, 1)
    for start in range(0, tensor.nbytes, num_rows * row_bytes):
        data = tensor.data[start : start + num_rows * row_bytes]
        count = data.nbytes // row_bytes * columns
        yield _native.dequantize(int(tensor.type), data, count).reshape(-1, columns)


def _quantized(choice: Choice, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    if not np.isfinite(weights).all():
        raise ModelFileError(f"tensor '{choice.name}' holds weights that are not finite; the file is damaged.")
    if choice.after is TensorType.F16:
        return weights.astype(np.float16).reshape(-1).view(np.uint8)
    return rtn.quantize(choice.after, weights)


def _provenance(file: GgufFile, kind: TensorType) -> dict[str, bytes]:
    return {
        "general.file_type": encode_u32(_FILE_TYPES[kind]),
        "general.quantization_version": encode_u32(2),
        "miaotui.version": encode_field(__version__),
        "miaotui.compress.recipe": encode_field(f"{kind.name.lower()} rtn"),
        "miaotui.compress.source_sha256": encode_field(_digest(file.weights.files[0])),
    }


def _digest(file: MappedFile) -> str:
    digest = hashlib.sha256()
    for start in range(0, file.size, CHUNK_WEIGHTS):
        part = file.bytes[start : start + CHUNK_WEIGHTS]
        digest.update(part.data)
        file.release(part)
    return digest.hexdigest()
