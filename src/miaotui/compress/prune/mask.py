"""Zeros in matrices that keep their shape: what masks have in common.

NO SPEED ON CPU: kernels multiply with the zeros as with any weight, and the file has the same size. Only a compressed
file gets smaller (`deflated_bytes`); the rest is research.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import Calibration
from miaotui.compress.prune.dimensions import dimensions
from miaotui.compress.source import CHUNK_WEIGHTS, Change, Changed, Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import encode_field
from miaotui.formats.weights import MappedFile, TensorType

Floats = NDArray[np.float32]
Mask = Callable[[Floats], NDArray[np.bool_]]
"""From what weights matter [rows, columns] to which stay; rows do not depend on one another."""

KINDS = (TensorType.F16, TensorType.Q8_0, TensorType.Q6_K, TensorType.Q5_0, TensorType.Q4_0)
"""Types that have a code for 0 in every block; a minimum, or IQ4_NL's table, would make other numbers of zeros."""
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NO_SPEED = "no speed on CPU: zeros are multiplied with as well; only a compressed file gets smaller"


def masked(source: Source, calibration: Calibration, mask: Mask, told: str) -> Changed:
    """The source with zeros in its layers' matrices; embeddings and head stay whole.

    A weight matters by |weight| x the root of its input's second moment (Wanda, arXiv:2306.11695, section 3).
    told: for the file's metadata. Raises ConfigError for a calibration without a matrix's inputs.
    """
    names = [f"blk.{at}.{name}.weight" for at in range(dimensions(source).num_layers) for name in MATRICES]
    changes: dict[str, Change | None] = {}
    for name in names:
        if name in source.tensors:
            if name not in calibration.inputs:
                raise ConfigError(f"the calibration knows no inputs of '{name}'; calibrate this model.")
            norms = np.sqrt(calibration.inputs[name].moments)
            changes[name] = Change(source.tensors[name].shape, partial(_masked_rows, source, name, norms, mask))
    said = {"miaotui.prune.mask": f"{told}; {NO_SPEED}", "miaotui.prune.calibration": calibration.digest}
    fields = {key: encode_field(value) for key, value in said.items()}
    return Changed(source, changes, metadata=said, fields=fields)


def _masked_rows(source: Source, name: str, norms: Floats, mask: Mask, first: int, last: int) -> Floats:
    weights = source.floats(name, first, last)
    zeroed: Floats = np.where(mask(np.abs(weights) * norms), weights, np.float32(0))
    return zeroed


def check_kind(kind: TensorType) -> None:
    """Raises ConfigError for a type in which zeros would not stay zeros."""
    if kind not in KINDS:
        allowed = ", ".join(k.name.lower() for k in KINDS)
        raise ConfigError(f"zeros do not stay zeros in {kind.name}; with a mask, choose one of {allowed}.")


def deflated_bytes(path: Path) -> int:
    """Bytes of the file as zlib makes it (DEFLATE, level 6: what gzip and zip do)."""
    file = MappedFile(path)
    packer = zlib.compressobj(6)
    total = 0
    for start in range(0, file.size, CHUNK_WEIGHTS):
        part = file.bytes[start : start + CHUNK_WEIGHTS]
        total += len(packer.compress(part.data))
        file.release(part)
    return total + len(packer.flush())
