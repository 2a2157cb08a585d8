"""Bounded reading of GGUF fields: every length is checked against the bytes that are really there.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (little-endian, unaligned, version 2 and 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NoReturn, overload

import numpy as np

from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats.weights import MappedFile

UINT32, BOOL, STRING, ARRAY = 4, 7, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", UINT32: "I", 5: "i", 6: "f", BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_STRUCTS = {kind: struct.Struct("<" + code) for kind, code in _SCALARS.items()}
_DTYPES = {kind: np.dtype("<" + code) for kind, code in _SCALARS.items()}
_VALUE_TYPE_NAMES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array")

MAX_STRING_BYTES = 16 << 20  # one value, e.g. a chat template
MAX_NESTING = 4
MAX_NESTED_ITEMS = 4096  # arrays inside arrays become Python objects at once; no known file needs them


class StringArray(Sequence[str]):
    """The strings of a metadata array, still in the file; only their bounds were checked.

    Bytes that are not UTF-8 come out as lone surrogates (PEP 383, `text.encode("utf-8", "surrogateescape")` gives
    them back), because vocabularies may hold tokens that are fragments of characters. Nothing is cached:
    `to_list()` or iterating decodes all of them (about 0.1 µs each), indexing walks to the one asked for.
    """

    __slots__ = ("_count", "_file", "_offset")

    def __init__(self, file: MappedFile, offset: int, count: int) -> None:
        self._file, self._offset, self._count = file, offset, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_list())

    def to_list(self) -> list[str]:
        """All strings, decoded."""
        return _native.read_strings(self._file.bytes, self._offset, self._count)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.to_list()[index]
        position = range(self._count)[index]
        start = _native.skip_strings(self._file.bytes, self._offset, position)
        return _native.read_strings(self._file.bytes, start, 1)[0]

    def __repr__(self) -> str:
        return f"<StringArray of {self._count} strings>"


class Cursor:
    """Reads fields one after another; `fail` raises a ModelFileError that names the file, the byte and the field."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.offset = 0
        self._buffer = file.bytes.data
        self._nested_items = 0

    def fail(self, what: str, problem: str, offset: int | None = None) -> NoReturn:
        """Raises; `offset` is where the field begins (default: here)."""
        at = self.offset if offset is None else offset
        raise ModelFileError(
            f"{self.file.path}: byte {at}: {what} {problem}; the file is damaged or incomplete, download it again."
        )

    def take(self, size: int, what: str) -> int:
        """Steps over `size` bytes and returns where they begin."""
        start = self.offset
        if size > self.file.size - start:
            self.fail(what, f"needs {size} bytes, but the file ends after {self.file.size - start}")
        self.offset = start + size
        return start

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        return int.from_bytes(self._buffer[(start := self.take(4, what)) : start + 4], "little")

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        return int.from_bytes(self._buffer[(start := self.take(8, what)) : start + 8], "little")

    def string(self, what: str, max_bytes: int) -> str:
        """A string that must be UTF-8 and at most `max_bytes` long."""
        begin = self.offset
        length = self.u64(f"length of {what}")
        if length > max_bytes:
            self.fail(what, f"is {length} bytes long; at most {max_bytes} are allowed", begin)
        start = self.take(length, what)
        try:
            return str(self._buffer[start : start + length], "utf-8")
        except UnicodeDecodeError:
            self.fail(what, "is not UTF-8", begin)

    def value(self, kind: int, key: str) -> object:
        """The metadata value of `key`, whose type number `kind` has just been read.

        Numbers, booleans and strings become Python objects; arrays of numbers read-only NumPy views of the file
        (unaligned); arrays of strings a `StringArray`; arrays of arrays nested tuples.
        """
        return self._value_of(kind, f"value of {key!r}", MAX_STRING_BYTES, depth=0)

    def _value_of(self, kind: int, what: str, max_bytes: int, depth: int) -> object:
        begin = self.offset
        if kind == STRING:
            return self.string(what, max_bytes)
        if kind == ARRAY:
            return self._array(what, depth)
        if kind not in _STRUCTS:
            known = ", ".join(f"{number} {name}" for number, name in enumerate(_VALUE_TYPE_NAMES))
            self.fail(what, f"has the unknown type {kind} (known: {known}, 10 uint64, 11 int64, 12 float64)", begin)
        layout = _STRUCTS[kind]
        (number,) = layout.unpack_from(self._buffer, self.take(layout.size, what))
        if kind != BOOL:
            return number
        if number > 1:
            self.fail(what, f"must be 0 or 1 as a boolean, not {number}", begin)
        return number == 1

    def _array(self, what: str, depth: int) -> object:
        if depth >= MAX_NESTING:
            self.fail(what, f"nests arrays deeper than {MAX_NESTING}")
        kind = self.u32(f"element type of the {what}")
        begin = self.offset
        count = self.u64(f"length of the {what}")
        if kind == STRING:
            return self._string_array(what, count)
        if kind == ARRAY:
            self._nested_items += count
            if self._nested_items > MAX_NESTED_ITEMS:
                self.fail(what, f"holds more than {MAX_NESTED_ITEMS} nested arrays", begin)
            return tuple(self._array(what, depth + 1) for _ in range(count))
        if kind not in _DTYPES:
            self.fail(what, f"has elements of the unknown type {kind}", begin)
        dtype = _DTYPES[kind]
        start = self.take(count * dtype.itemsize, f"{what} ({count} elements)")
        array = self.file.bytes[start : self.offset].view(dtype)
        if kind == BOOL:
            if count and array.max() > 1:
                self.fail(what, "must hold only 0 and 1 as booleans", begin)
            return array.view(np.bool_)
        return array

    def _string_array(self, what: str, count: int) -> StringArray:
        start = self.offset
        try:
            self.offset = _native.skip_strings(self.file.bytes, start, count)
        except ModelFileError as error:
            self.fail(what, f"is broken: {error}", start)
        return StringArray(self.file, start, count)
