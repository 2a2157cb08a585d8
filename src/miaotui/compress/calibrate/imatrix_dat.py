"""llama.cpp's older importance matrices: files without a magic number, usually called .dat.

Format: tools/imatrix/imatrix.cpp of https://github.com/ggml-org/llama.cpp (`save_imatrix_legacy`), little-endian:
int32 entries; each int32 length and bytes of the name, int32 calls, int32 values, float32 values (the mean of x² times
the calls); then, in newer ones, int32 chunks and int32 length and bytes of the text's name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from miaotui.compress.calibrate.imatrix import moments_of
from miaotui.compress.calibration import InputStatistics
from miaotui.errors import ModelFileError
from miaotui.formats.gguf import MAX_NAME_BYTES, MAX_TENSORS
from miaotui.formats.gguf_values import Cursor
from miaotui.formats.weights import MappedFile

CALL_TOKENS = 512
"""Of a call: the default of the tool that writes these files, which do not say."""
MAX_INT32 = 2**31 - 1


def encode_dat(inputs: Mapping[str, InputStatistics], dataset: str) -> bytes:
    """The whole file; matrices in the order of their names, as the tool has them."""
    parts, most = [struct.pack("<i", len(inputs))], 0
    for name, one in sorted(inputs.items()):
        calls = -(-one.tokens // CALL_TOKENS)
        most = max(most, calls)
        values = (one.moments.astype(np.float64) * calls).astype("<f4")
        parts += [_text(name), struct.pack("<ii", calls, len(values)), values.tobytes()]
    return b"".join([*parts, struct.pack("<i", most), _text(dataset)])


def read_dat(path: Path) -> dict[str, InputStatistics]:
    """The moments of every matrix. Raises ModelFileError for what is no such file, or damaged."""
    cursor = Cursor(MappedFile(path))
    entries = _size(cursor, "number of matrices", MAX_TENSORS)
    inputs: dict[str, InputStatistics] = {}
    for index in range(entries):
        name = _string(cursor, f"name {index}", least=1)
        calls = _size(cursor, f"calls of {name!r:.80}", MAX_INT32, least=0)
        count = _size(cursor, f"values of {name!r:.80}", MAX_INT32)
        start = cursor.take(4 * count, f"sums of {name!r:.80}")
        values = cursor.file.bytes[start : cursor.offset].view("<f4").astype(np.float64)
        if name in inputs:
            cursor.fail(f"name {index}", f"{name!r:.80} occurs twice")
        moments = (values / max(calls, 1)).astype(np.float32)
        inputs[name] = InputStatistics(max(calls, 1) * CALL_TOKENS, moments_of(path, name, moments))
    if cursor.offset < cursor.file.size:
        _size(cursor, "number of chunks", MAX_INT32, least=0)
        if cursor.offset < cursor.file.size:
            _string(cursor, "name of the text", least=0)
    if cursor.offset < cursor.file.size:
        cursor.fail("end of the file", "has bytes behind it")
    return inputs


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")
    return struct.pack("<i", len(encoded)) + encoded


def _size(cursor: Cursor, what: str, most: int, *, least: int = 1) -> int:
    begin = cursor.offset
    size = cursor.u32(what)
    if not least <= size <= most:
        cursor.fail(what, f"is {size}, which is not between {least} and {most}", begin)
    return size


def _string(cursor: Cursor, what: str, *, least: int) -> str:
    """Names of texts are paths, which may be longer than names of tensors."""
    length = _size(cursor, f"length of {what}", MAX_NAME_BYTES if least else 1 << 16, least=least)
    start = cursor.take(length, what)
    try:
        return cursor.file.bytes[start : start + length].tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(f"{cursor.file.path}: byte {start}: {what} is not UTF-8; make the file again.") from None
