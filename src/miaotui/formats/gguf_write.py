"""Writes GGUF files, version 3: the header at once, then tensor by tensor, so that no more than one is in memory.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError, OutputError
from miaotui.formats.gguf import DEFAULT_ALIGNMENT, MAGIC
from miaotui.formats.gguf_values import ARRAY, BOOL, STRING, UINT32
from miaotui.formats.part_file import PartFile
from miaotui.formats.weights import TensorType

VERSION = 3
INT32, FLOAT32, INT64, FLOAT64 = 5, 6, 11, 12
_SPARE_BYTES = 16 << 20
"""What a disk has to have left behind the file."""

Field = NDArray[np.uint8] | bytes
StandardValue = str | bool | int | float | Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor that is going to be written; `shape` in NumPy order, rows of whole blocks."""

    name: str
    type: TensorType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) // self.type.block_weights * self.type.block_bytes


def encode_field(value: str | bool | int | float) -> bytes:
    """A metadata value as it lies in a file, behind its type number; integers as int64, floats as float64."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<IB", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<Iq", INT64, value)
    return struct.pack("<Id", FLOAT64, value)


def encode_u32(value: int) -> bytes:
    """An integer for keys that the format's readers want as uint32."""
    return struct.pack("<II", UINT32, value)


def encode_as_converted(value: StandardValue) -> bytes:
    """A value in the type that llama.cpp's converter gives it and its loader insists on.

    Whole numbers are uint32, other numbers float32; lists hold strings (bytes as surrogate escapes, PEP 383) or int32.
    """
    if isinstance(value, bool | str):
        return encode_field(value)
    if isinstance(value, int):
        return encode_u32(value)
    if isinstance(value, float):
        return encode_f32(value)
    if all(isinstance(item, int) for item in value):
        return struct.pack("<IIQ", ARRAY, INT32, len(value)) + np.asarray(value, "<i4").tobytes()
    return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_string(str(item)) for item in value)


def encode_f32(value: float) -> bytes:
    """A number for keys that the format's readers want as float32."""
    return struct.pack("<If", FLOAT32, value)


class GgufWriter:
    """A file that appears at `path` when it is whole, as a context manager; until then nothing is there.

    fields: metadata by key, as `GgufFile.fields` or `encode_field` give it. tensors: in the order in which `write` gets
    their bytes. What an interrupt or a crash left behind is gone on with by whoever writes the same header again; an
    error leaves nothing. Raises OutputError where there is no room for it, it cannot be written, or another process
    writes it now.
    """

    def __init__(self, path: Path, fields: Mapping[str, Field], tensors: Iterable[PlannedTensor]) -> None:
        self._path = path
        self._left = list(tensors)
        header = _header(fields, self._left)
        self._num_bytes = len(header) + sum(_padded(tensor.nbytes) for tensor in self._left)
        try:
            self._part = PartFile(path, header)
            self._skip(len(header))
            free = shutil.disk_usage(path.parent).free
            missing = self._num_bytes - self._part.size
            if free < missing + _SPARE_BYTES:
                raise OutputError(
                    f"{path}: needs {missing} more bytes, and the disk has {free}; free some, or write elsewhere."
                )
        except OSError as error:
            raise self._failed(error) from None

    def is_written(self, name: str) -> bool:
        """Whether an earlier run has written that tensor already."""
        return all(tensor.name != name for tensor in self._left)

    def write(self, name: str, data: NDArray[np.uint8]) -> None:
        """The bytes of the next tensor. Raises ModelFileError if that is another one, or has another size."""
        if not self._left or self._left[0].name != name or self._left[0].nbytes != data.nbytes:
            raise ModelFileError(f"tensor '{name}' of {data.nbytes} bytes was not to be written here.")
        self._left.pop(0)
        try:
            self._part.append(data.data, bytes(_padded(data.nbytes) - data.nbytes))
        except OSError as error:
            raise self._failed(error) from None

    def __enter__(self) -> GgufWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._part.close(keep=not issubclass(kind, Exception))
            return
        if self._left:
            self._part.close(keep=False)
            raise ModelFileError(f"tensor '{self._left[0].name}' was not written.")
        try:
            self._part.finish()
        except OSError as problem:
            raise self._failed(problem) from None

    def _skip(self, header_bytes: int) -> None:
        """Take over what an earlier run has written: the header and whole tensors."""
        end = header_bytes
        while self._left and end + _padded(self._left[0].nbytes) <= self._part.size:
            end += _padded(self._left.pop(0).nbytes)

    def _failed(self, error: OSError) -> OutputError:
        if hasattr(self, "_part"):
            self._part.close(keep=False)
        return error if isinstance(error, OutputError) else OutputError(f"{self._path}: cannot be written ({error}).")


def _padded(nbytes: int) -> int:
    return -(-nbytes // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _header(fields: Mapping[str, Field], tensors: list[PlannedTensor]) -> bytes:
    kept = {key: bytes(value) for key, value in fields.items() if key != "general.alignment"}
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(kept))]
    for key, value in kept.items():
        parts += [_string(key), value]
    start = 0
    for tensor in tensors:
        dimensions = tensor.shape[::-1]
        parts += [_string(tensor.name), struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)]
        parts.append(struct.pack("<IQ", tensor.type, start))
        start += _padded(tensor.nbytes)
    header = b"".join(parts)
    return header + bytes(_padded(len(header)) - len(header))


def _string(text: str) -> bytes:
    """Raises ModelFileError for what no UTF-8 stands for."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ModelFileError(f"{text[:40]!a}: is no text ({error.reason}); mend it in the source.") from None
    return struct.pack("<Q", len(encoded)) + encoded
