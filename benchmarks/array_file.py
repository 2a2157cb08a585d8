"""Named arrays in a file, for processes of different environments: safetensors' layout, of few element types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
_TYPES = {"F32": "<f4", "I32": "<i4", "I64": "<i8"}


def save_arrays(path: Path | str, arrays: Arrays) -> None:
    """Write arrays of float32, int32 or int64."""
    names = {np.dtype(code): name for name, code in _TYPES.items()}
    header, at = {}, 0
    for name, array in arrays.items():
        end = at + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    parts = (np.ascontiguousarray(array).tobytes() for array in arrays.values())
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def load_arrays(path: Path | str) -> Arrays:
    """What `save_arrays` wrote."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    arrays = {}
    for name, entry in json.loads(content[8:start]).items():
        first, last = (start + at for at in entry["data_offsets"])
        flat = np.frombuffer(content[first:last], _TYPES[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"]).copy()
    return arrays
