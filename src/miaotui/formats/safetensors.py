"""safetensors files and sharded folders of them, memory-mapped.

Format: https://github.com/huggingface/safetensors#format (8-byte header length, JSON header, data without gaps).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError, ModelNotFoundError, UnsupportedModelError
from miaotui.formats.json_file import parse_object, read_json_object
from miaotui.formats.weights import MappedFile, Tensor, TensorType, Weights

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
COUNTED_POSITIONS = "embeddings.position_ids"
"""A list 0, 1, 2, … in 64-bit integers that older files of encoders hold; nothing reads it."""
_TYPES = {"F32": TensorType.F32, "F16": TensorType.F16, "BF16": TensorType.BF16}


def read_folder(folder: Path) -> Weights:
    """All tensors of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.

    Raises ModelNotFoundError when neither is there, ModelFileError when a file is damaged, contradicts the index or
    lies outside the folder, UnsupportedModelError for an element type other than F32, F16, BF16.
    """
    index = folder / INDEX_FILE
    if index.exists():
        return _read_shards(folder, index)
    if not (folder / SINGLE_FILE).exists():
        raise ModelNotFoundError(
            f"{folder}: holds neither {SINGLE_FILE} nor {INDEX_FILE}; convert other weights to safetensors first."
        )
    file = MappedFile(inside(folder, SINGLE_FILE))
    return Weights([(file, read_tensors(file))])


def inside(folder: Path, name: str) -> Path:
    """The path of file `name` directly in `folder`.

    A link may point elsewhere only within the folder, or into the `blobs` of a Hugging Face cache whose snapshot the
    folder is. Raises ModelFileError for anything else.
    """
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0") or len(name) > 255:
        raise ModelFileError(f"{folder}: {name!r:.80} is not a plain file name; the folder's index is damaged.")
    target, home = (folder / name).resolve(), folder.resolve()
    if target.parent != home and target.parent != home.parent.parent / "blobs":
        raise ModelFileError(f"{folder / name}: is a link to a file outside the folder; replace it by the file.")
    return folder / name


def _read_shards(folder: Path, index: Path) -> Weights:
    content = read_json_object(inside(folder, INDEX_FILE), MAX_HEADER_BYTES)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelFileError(f"{index}: 'weight_map' must map tensor names to file names; download it again.")
    files = [MappedFile(inside(folder, name)) for name in sorted(set(weight_map.values()))]
    weights = Weights([(file, read_tensors(file)) for file in files])
    missing = sorted(set(weight_map) - set(weights))
    if missing:
        raise ModelFileError(f"{folder}: tensor {missing[0]!r:.200} of the index is in no file; download it again.")
    return weights


def read_tensors(file: MappedFile) -> list[Tensor]:
    """The tensors of one file; their data must follow each other without gap or overlap to the file's end."""
    data_start = _header_end(file)
    header, _ = _read_header(file, data_start)
    if len(header) > MAX_TENSORS:
        _fail(file, f"{len(header)} tensors are more than {MAX_TENSORS}")
    entries = sorted((_extent(file, name, entry), name) for name, entry in header.items())
    tensors, end = [], 0
    for (begin, stop), name in entries:
        if begin != end:
            _fail(file, f"data of tensor {name!r} begins at {begin}, but {end} is the end of the one before")
        if stop > file.size - data_start:
            _fail(file, f"data of tensor {name!r} ends at {stop}, but only {file.size - data_start} bytes follow")
        end = stop
        if name.endswith(COUNTED_POSITIONS):
            continue
        tensors.append(_tensor(file, name, header[name], file.bytes[data_start + begin : data_start + stop]))
    if data_start + end != file.size:
        _fail(file, f"{file.size - data_start - end} bytes at the end belong to no tensor")
    return tensors


def read_metadata(file: MappedFile) -> dict[str, str]:
    """What the file says of itself."""
    return _read_header(file, _header_end(file))[1]


def _read_header(file: MappedFile, data_start: int) -> tuple[dict[str, object], dict[str, str]]:
    """The tensors' entries, and the metadata."""
    header = parse_object(file.bytes[8:data_start].tobytes(), f"{file.path}: header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _fail(file, "'__metadata__' must map strings to strings")
    return header, metadata


def _header_end(file: MappedFile) -> int:
    if file.size < 8:
        _fail(file, f"the file has {file.size} bytes; even the header's length needs 8")
    length = int.from_bytes(file.bytes[:8].tobytes(), "little")
    if length > min(MAX_HEADER_BYTES, file.size - 8):
        _fail(
            file, f"the header's length {length} is more than the {file.size - 8} bytes left or than {MAX_HEADER_BYTES}"
        )
    return 8 + length


def _extent(file: MappedFile, name: str, entry: object) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
        _fail(file, f"tensor {name!r:.200} needs 'data_offsets' of two integers")
    begin, stop = offsets
    if not 0 <= begin <= stop <= file.size:
        _fail(file, f"the 'data_offsets' of tensor {name!r:.200} do not lie in the file")
    return begin, stop


def _tensor(file: MappedFile, name: str, entry: object, data: NDArray[np.uint8]) -> Tensor:
    shape, dtype = (entry.get("shape"), entry.get("dtype")) if isinstance(entry, dict) else (None, None)
    if not (isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)):
        _fail(file, f"tensor {name!r:.200} needs a 'shape' of at most {MAX_DIMENSIONS} sizes")
    if not isinstance(dtype, str):
        _fail(file, f"tensor {name!r:.200} needs a 'dtype'")
    if dtype not in _TYPES:
        raise UnsupportedModelError(
            f"{file.path}: tensor {name!r:.200} has type {dtype!r:.20}, which is not supported "
            f"(supported: {', '.join(_TYPES)})."
        )
    if math.prod(shape) * _TYPES[dtype].block_bytes != data.nbytes:
        _fail(file, f"shape and type of tensor {name!r:.200} do not give its {data.nbytes} bytes")
    return Tensor(name, _TYPES[dtype], tuple(shape), data)


def _fail(file: MappedFile, problem: str) -> NoReturn:
    raise ModelFileError(f"{file.path}: {problem}; the file is damaged or incomplete, download it again.")
