"""GGUF files, version 2 and 3, memory-mapped; a file from a stranger can at worst be refused.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.gguf_values import UINT32, Cursor
from miaotui.formats.weights import MappedFile, Tensor, TensorType, Weights

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 2 << 20  # a huge page
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 65_535
MAX_NAME_BYTES = 256
MAX_DIMENSIONS = 4
_OTHER_TYPES = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufFile:
    """Header of a GGUF file: key/values as `gguf_values.Cursor.value` gives them, and its tensors.

    fields: the same values as they lie in the file, each behind its type number; for writing them again.
    """

    path: Path
    version: int
    metadata: Mapping[str, object]
    weights: Weights
    fields: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _TensorEntry:
    name: str
    type: TensorType
    shape: tuple[int, ...]
    start: int  # within the data section
    nbytes: int
    field_offset: int


def read_gguf(path: Path) -> GgufFile:
    """Maps the file and reads its header; tensor data and long string arrays stay on disk.

    Raises ModelNotFoundError, ModelFileError (names the field and its byte), or UnsupportedModelError (a version,
    byte order, split or tensor type that miaotui does not read).
    """
    file = MappedFile(path)
    cursor = Cursor(file)
    version = _read_version(cursor)
    num_tensors = _read_count(cursor, "tensor count", MAX_TENSORS, smallest_bytes=8 + 4 + 8 + 4 + 8)
    num_keys = _read_count(cursor, "key count", MAX_KEYS, smallest_bytes=8 + 4 + 1)
    metadata, fields = _read_metadata(cursor, num_keys)
    _refuse_splits(path, metadata)
    alignment = _alignment(cursor, metadata)
    entries = [_read_tensor_entry(cursor, alignment) for _ in range(num_tensors)]
    _check_names(cursor, entries)
    data_start = -(-cursor.offset // alignment) * alignment
    _check_extents(cursor, entries, data_start)
    tensors = [
        Tensor(e.name, e.type, e.shape, file.bytes[data_start + e.start : data_start + e.start + e.nbytes])
        for e in entries
    ]
    return GgufFile(path, version, MappingProxyType(metadata), Weights([(file, tensors)]), MappingProxyType(fields))


def _read_version(cursor: Cursor) -> int:
    path = cursor.file.path
    start = cursor.take(len(MAGIC), "magic number")
    if cursor.file.bytes[start : start + len(MAGIC)].tobytes() != MAGIC:
        raise ModelFileError(f"{path}: byte 0: is not a GGUF file (it does not begin with 'GGUF'); give another file.")
    version = cursor.u32("version")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0:
        raise UnsupportedModelError(f"{path}: is a big-endian GGUF file; convert it with `gguf-convert-endian`.")
    raise UnsupportedModelError(f"{path}: GGUF version {version} is not supported (supported: 2, 3); convert it anew.")


def _read_count(cursor: Cursor, what: str, limit: int, smallest_bytes: int) -> int:
    begin = cursor.offset
    count = cursor.u64(what)
    left = cursor.file.size - cursor.offset
    if count > min(limit, left // smallest_bytes):
        cursor.fail(what, f"{count} is more than the file can hold ({left} bytes follow; limit {limit})", begin)
    return count


def _read_metadata(cursor: Cursor, num_keys: int) -> tuple[dict[str, object], dict[str, NDArray[np.uint8]]]:
    metadata: dict[str, object] = {}
    fields: dict[str, NDArray[np.uint8]] = {}
    for index in range(num_keys):
        begin = cursor.offset
        key = cursor.string(f"key {index}", MAX_KEY_BYTES)
        if not key or key in metadata:
            cursor.fail(f"key {index}", f"{key[:64]!r} occurs twice" if key else "is empty", begin)
        field_start = cursor.offset
        kind = cursor.u32(f"type of {key[:64]!r}")
        if key == "general.alignment" and kind != UINT32:
            cursor.fail(f"{key!r}", f"must be a uint32 (type {UINT32}), not of type {kind}", cursor.offset - 4)
        metadata[key] = cursor.value(kind, key[:64])
        fields[key] = cursor.file.bytes[field_start : cursor.offset]
    return metadata, fields


def _refuse_splits(path: Path, metadata: Mapping[str, object]) -> None:
    count = metadata.get("split.count", 0)
    if isinstance(count, int) and count > 1:
        raise UnsupportedModelError(
            f"{path}: is one of {count} parts of a split GGUF file; join them first with `llama-gguf-split --merge`."
        )


def _alignment(cursor: Cursor, metadata: Mapping[str, object]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    is_power = isinstance(value, int) and value > 0 and value & (value - 1) == 0
    if not (is_power and isinstance(value, int) and 8 <= value <= MAX_ALIGNMENT):
        cursor.fail("'general.alignment'", f"must be a power of two from 8 to {MAX_ALIGNMENT}, not {value!r:.64}", 0)
    return value


def _read_tensor_entry(cursor: Cursor, alignment: int) -> _TensorEntry:
    begin = cursor.offset
    name = cursor.string("tensor name", MAX_NAME_BYTES)
    what = f"tensor {name!r}"
    num_dimensions = cursor.u32(f"dimension count of {what}")
    if not name or not 1 <= num_dimensions <= MAX_DIMENSIONS:
        cursor.fail(what, f"has {num_dimensions} dimensions; 1 to {MAX_DIMENSIONS} and a name are needed", begin)
    shape = tuple(cursor.u64(f"dimension {i} of {what}") for i in range(num_dimensions))[::-1]
    type_number = cursor.u32(f"type of {what}")
    tensor_type = _tensor_type(cursor, what, type_number)
    start = cursor.u64(f"offset of {what}")
    if start % alignment != 0:
        cursor.fail(f"offset of {what}", f"{start} is not a multiple of the alignment {alignment}", cursor.offset - 8)
    # Python's integers do not wrap, so the product is the true one and the extent check below sees it.
    blocks, rest = divmod(math.prod(shape), tensor_type.block_weights)
    if 0 in shape or shape[-1] % tensor_type.block_weights != 0 or rest != 0:
        cursor.fail(
            what,
            f"of shape {shape} does not consist of whole {tensor_type.name} blocks ({tensor_type.block_weights})",
            begin,
        )
    return _TensorEntry(name, tensor_type, shape, start, blocks * tensor_type.block_bytes, begin)


def _tensor_type(cursor: Cursor, what: str, number: int) -> TensorType:
    try:
        return TensorType(number)
    except ValueError:
        name = _OTHER_TYPES.get(number, f"number {number}")
        supported = ", ".join(member.name for member in TensorType)
        raise UnsupportedModelError(
            f"{cursor.file.path}: {what} has type {name}, which is not supported (supported: {supported}); "
            "take another quantization of the model."
        ) from None


def _check_names(cursor: Cursor, entries: list[_TensorEntry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            cursor.fail(f"tensor {entry.name!r}", "occurs twice", entry.field_offset)
        seen.add(entry.name)


def _check_extents(cursor: Cursor, entries: list[_TensorEntry], data_start: int) -> None:
    room = cursor.file.size - data_start
    end, previous = 0, ""
    for entry in sorted(entries, key=lambda e: e.start):
        what = f"data of tensor {entry.name!r}"
        if entry.start < end:
            cursor.fail(what, f"overlaps that of {previous!r}", entry.field_offset)
        end, previous = entry.start + entry.nbytes, entry.name
        if end > room:
            missing = (
                f"needs bytes {data_start + entry.start} to {data_start + end}, but the file has {cursor.file.size}"
            )
            cursor.fail(what, missing, entry.field_offset)
