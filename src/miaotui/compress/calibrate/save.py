"""Writes calibrations: GGUF files that llama.cpp reads as importance matrices, with what else there is beside.

Beside NAME.in_sum2 and NAME.counts (see `imatrix`): NAME.moments, NAME.means, NAME.lows, NAME.highs [columns] and
NAME.hessian [columns, columns], all float32, and "influence" [layers]. Of matrices that are fed the same rows, only the
first has the latter ones; the metadata say for each of the others which that is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibrate.imatrix import imatrix_fields, imatrix_tensors
from miaotui.compress.calibrate.imatrix_dat import encode_dat
from miaotui.compress.calibrate.text import WINDOW_TOKENS
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.errors import OutputError
from miaotui.formats.gguf_write import Field, GgufWriter, PlannedTensor, encode_field, encode_u32
from miaotui.formats.store_files import write_whole
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]
Planned = tuple[str, tuple[int, ...], Callable[[], Floats]]

VERSION = 1
KEY = "miaotui.calibration."
VECTORS = ("moments", "means", "lows", "highs")
HESSIAN, INFLUENCE = ".hessian", "influence"

Step = Callable[[int, int], None]
"""Is told how many tensors are written, of how many."""


def save_calibration(
    calibration: Calibration, path: Path, *, hessians: bool = False, dataset: str = "", step: Step | None = None
) -> None:
    """Write all of it, but the Hessians only when they are asked for: they are computed then, and large.

    dataset: what the text was called. The file appears when it is whole. Raises OutputError where it cannot be written.
    """
    first = first_readers(calibration.inputs)
    shared = {name: other for name, other in first.items() if name != other}
    fields: dict[str, Field] = {
        **imatrix_fields(calibration.tokens, WINDOW_TOKENS, [dataset] if dataset else []),
        f"{KEY}version": encode_u32(VERSION),
        f"{KEY}source_sha256": encode_field(calibration.source_sha256),
        f"{KEY}tokens": encode_field(calibration.tokens),
        f"{KEY}digest": encode_field(calibration.digest),
        f"{KEY}shared": encode_field(json.dumps(shared)),
    }
    tensors = list(_known(imatrix_tensors(calibration.inputs)))
    if calibration.influence is not None:
        tensors += _known({INFLUENCE: calibration.influence})
    for name in dict.fromkeys(first.values()):
        tensors += _of_input(name, calibration.inputs[name], hessians)
    _write(path, fields, tensors, step)


def save_imatrix(calibration: Calibration, path: Path, *, dataset: str = "") -> None:
    """Write what llama.cpp's importance matrices hold and nothing else; in its older format where `path` ends in .dat.

    Raises OutputError where the file cannot be written.
    """
    if path.suffix == ".dat":
        content = encode_dat(calibration.inputs, dataset)
        try:
            write_whole(path, lambda out: out.write(content))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error}).") from None
        return
    # The digest tells files apart whose writing was interrupted.
    digest = {f"{KEY}digest": encode_field(calibration.digest)}
    fields = {**imatrix_fields(calibration.tokens, WINDOW_TOKENS, [dataset] if dataset else []), **digest}
    _write(path, fields, list(_known(imatrix_tensors(calibration.inputs))), None)


def first_readers(inputs: Mapping[str, InputStatistics]) -> dict[str, str]:
    """For every matrix, the first of those that are fed the same rows."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(one), name) for name, one in inputs.items()}


def _of_input(name: str, one: InputStatistics, hessians: bool) -> Iterator[Planned]:
    vectors = {kind: getattr(one, kind) for kind in VECTORS}
    yield from _known({f"{name}.{kind}": values for kind, values in vectors.items() if values is not None})
    if hessians and one.hessian is not None:
        yield name + HESSIAN, (len(one.moments), len(one.moments)), one.hessian


def _known(tensors: Mapping[str, Floats]) -> Iterator[Planned]:
    for name, values in tensors.items():
        yield name, values.shape, partial(np.asarray, values)


def _write(path: Path, fields: Mapping[str, Field], tensors: list[Planned], step: Step | None) -> None:
    planned = [PlannedTensor(name, TensorType.F32, shape) for name, shape, _ in tensors]
    with GgufWriter(path, fields, planned) as writer:
        for index, (name, _, values) in enumerate(tensors):
            if writer.is_written(name):
                continue
            if step is not None:
                step(index, len(tensors))
            writer.write(name, np.ascontiguousarray(values(), np.float32).reshape(-1).view(np.uint8))
