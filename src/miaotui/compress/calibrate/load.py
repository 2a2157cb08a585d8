"""Reads calibrations, ours and llama.cpp's importance matrices in both formats, from strangers too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibrate.digest import contents_digest
from miaotui.compress.calibrate.imatrix import figures, moments_of, read_imatrix
from miaotui.compress.calibrate.imatrix_dat import read_dat
from miaotui.compress.calibrate.save import HESSIAN, INFLUENCE, KEY, VECTORS, VERSION
from miaotui.compress.calibration import Calibration, InputStatistics
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats.gguf import MAGIC, GgufFile, read_gguf
from miaotui.formats.json_file import parse_object
from miaotui.formats.weights import MappedFile, Tensor, TensorType

Floats = NDArray[np.float32]


def load_calibration(path: Path) -> Calibration:
    """A calibration, or an importance matrix, which has moments only and does not say of which model.

    Hessians stay in the file until they are asked for. Raises ModelNotFoundError, ModelFileError for what is damaged or
    something else, UnsupportedModelError for experts and for calibrations of a later version.
    """
    if MappedFile(path).bytes[: len(MAGIC)].tobytes() != MAGIC:
        return _of_imatrix(read_dat(path))
    file = read_gguf(path)
    inputs = read_imatrix(file)
    if f"{KEY}version" not in file.metadata:
        return _of_imatrix(inputs)
    if file.metadata[f"{KEY}version"] != VERSION:
        raise UnsupportedModelError(f"{path}: was written by a later version of miaotui; collect it anew.")
    return _of_ours(file, inputs)


def _of_imatrix(inputs: dict[str, InputStatistics]) -> Calibration:
    tokens = max((one.tokens for one in inputs.values()), default=0)
    return Calibration("", tokens, inputs, None, contents_digest("", tokens, inputs, None))


def _of_ours(file: GgufFile, sums: dict[str, InputStatistics]) -> Calibration:
    shared = parse_object(str(_told(file, "shared", str)).encode(), f"{file.path}: shared")
    inputs: dict[str, InputStatistics] = {}
    for name, one in sums.items():
        other = shared.get(name, name)
        if not isinstance(other, str) or (other != name and other not in inputs):
            raise ModelFileError(f"{file.path}: {name!r:.80} shares its inputs with what is not there; make it again.")
        inputs[name] = inputs[other] if other != name else _input(file, name, one)
    influence = figures(file.path, file.weights[INFLUENCE]) if INFLUENCE in file.weights else None
    source, tokens = str(_told(file, "source_sha256", str)), int(str(_told(file, "tokens", int)))
    digest = contents_digest(source, tokens, inputs, None if influence is None else influence.reshape(-1))
    if digest != _told(file, "digest", str):
        raise ModelFileError(f"{file.path}: is not what was collected; it was changed or is damaged. Collect it anew.")
    return Calibration(source, tokens, inputs, influence, digest)


def _told(file: GgufFile, key: str, kind: type) -> object:
    value = file.metadata.get(KEY + key)
    if not isinstance(value, kind):
        raise ModelFileError(f"{file.path}: {KEY}{key} is missing or of another type; make the file again.")
    return value


def _input(file: GgufFile, name: str, sums: InputStatistics) -> InputStatistics:
    columns = len(sums.moments)
    found: dict[str, Floats] = {}
    for kind in VECTORS:
        tensor = file.weights.get(f"{name}.{kind}")
        if tensor is not None:
            _check_shape(file, tensor, (columns,))
            found[kind] = figures(file.path, tensor)
    if "moments" not in found:
        raise ModelFileError(f"{file.path}: has no moments of {name!r:.80}; make the file again.")
    moments_of(file.path, name, found["moments"])
    return replace(sums, **found, hessian=_hessian(file, name, columns))  # type: ignore[arg-type]


def _hessian(file: GgufFile, name: str, columns: int) -> Callable[[], Floats] | None:
    tensor = file.weights.get(name + HESSIAN)
    if tensor is None:
        return None
    _check_shape(file, tensor, (columns, columns))
    return partial(_mapped, file.path, tensor)


def _mapped(path: Path, tensor: Tensor) -> Floats:
    """The values where they lie in the file. Raises ModelFileError for what is no mean of outer products."""
    values = tensor.data.view("<f4").reshape(tensor.shape)
    if not np.isfinite(values).all():
        raise ModelFileError(f"{path}: {tensor.name!r:.80} holds figures that are not finite; make the file again.")
    if (values.diagonal() < 0).any():
        raise ModelFileError(f"{path}: {tensor.name!r:.80} holds means of squares below 0; make the file again.")
    return values


def _check_shape(file: GgufFile, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape or tensor.type is not TensorType.F32:
        raise ModelFileError(f"{file.path}: {tensor.name!r:.80} does not fit its sums; make the file again.")
