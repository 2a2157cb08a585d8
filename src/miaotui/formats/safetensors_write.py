"""Writes safetensors files of float32 tensors, straight from their arrays.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import OutputError

_ALIGNMENT = 8
_SPARE_BYTES = 16 << 20
"""What a disk has to have left behind the file."""


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str] | None = None
) -> None:
    """The file replaces what is at `path` when it is whole. Raises OutputError where it cannot be written."""
    entries: dict[str, object] = {"__metadata__": dict(metadata or {})}
    end = 0
    for name, values in tensors.items():
        entries[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        free = shutil.disk_usage(path.parent).free
        if free < end + _SPARE_BYTES:
            raise OutputError(f"{path}: needs {end} bytes, and the disk has {free}; free some, or write elsewhere.")
        with part.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for values in tensors.values():
                file.write(np.ascontiguousarray(values, np.float32).data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}).") from None
    finally:
        part.unlink(missing_ok=True)
