"""A model file with its weights in fewer bits, written tensor by tensor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui import __version__
from miaotui.compress.calibrate.digest import source_digest
from miaotui.compress.calibration import Calibration, inputs_of
from miaotui.compress.folder_source import FolderSource
from miaotui.compress.plan import Choice, plan
from miaotui.compress.quantize import METHODS, NEED_CALIBRATION
from miaotui.compress.quantize.method import Quantizer
from miaotui.compress.sensitivity import Blocks
from miaotui.compress.source import FileSource, Source, chunks
from miaotui.errors import ConfigError, ModelFileError, UnsupportedModelError
from miaotui.formats.gguf import read_gguf
from miaotui.formats.gguf_write import Field, GgufWriter, PlannedTensor, encode_field, encode_u32
from miaotui.formats.weights import TensorType

_FILE_TYPES = {
    TensorType.F16: 1,
    TensorType.Q4_0: 2,
    TensorType.Q4_1: 3,
    TensorType.Q8_0: 7,
    TensorType.Q5_0: 8,
    TensorType.Q5_1: 9,
    TensorType.Q4_K: 15,
    TensorType.Q6_K: 18,
    TensorType.IQ4_NL: 25,
}
"""llama.cpp's numbers for what most of a file is."""

Step = Callable[[Choice, int, int], None]
"""Told before each tensor: what is done with it, how many bytes of the source are done, of how many."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What `compress` wrote: bytes before and after, and each tensor's types."""

    path: Path
    source_bytes: int
    output_bytes: int
    choices: tuple[Choice, ...]


def open_source(path: Path) -> Source:
    """A GGUF file, or a Hugging Face folder that GGUF has a form for.

    Raises what `read_gguf` and `FolderSource` do, UnsupportedModelError for other files.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.suffix != ".gguf":
        raise UnsupportedModelError(f"{path}: is neither a GGUF file nor a Hugging Face folder.")
    return FileSource(read_gguf(path))


def compress(
    source: Source,
    output: Path,
    kind: TensorType,
    *,
    types: Mapping[str, TensorType] | None = None,
    method: str = "rtn",
    calibration: Calibration | None = None,
    made: Mapping[str, Blocks] | None = None,
    step: Step | None = None,
) -> Compressed:
    """Write the model to `output` with matrices of that type, or of those in `types`, as a standard GGUF file.

    made: matrices by this method and this calibration that are there already. The file appears when it is whole. Needs
    memory for the largest tensor as it is written, and for some million weights as floats, beside the mapped source.
    Raises ModelFileError for weights that no scale can hold, ConfigError for a method that there is not or that needs
    a calibration, OutputError where the file cannot be written.
    """
    check_output(source, output)
    if method not in METHODS:
        raise ConfigError(f"{method!r:.40} is no method; choose one of {', '.join(METHODS)}.")
    if method in NEED_CALIBRATION and calibration is None:
        raise ConfigError(f"{method} needs a calibration of this model; collect one, or choose search.")
    choices = plan(source.tensors.values(), kind, types)
    provenance = _provenance(source, kind, method, calibration, _most(choices), is_mixed=bool(types))
    fields: dict[str, Field] = {**source.fields, **provenance}
    total = sum(_num_weights(choice) for choice in choices)
    done = 0
    planned = [PlannedTensor(choice.name, choice.after, choice.shape) for choice in choices]
    with GgufWriter(output, fields, planned) as writer:
        for choice in choices:
            if step is not None:
                step(choice, done, total)
            if not writer.is_written(choice.name):
                writer.write(choice.name, _converted(source, choice, method, calibration, made or {}))
            done += _num_weights(choice)
            source.release(choice.name)
    source_bytes = sum(path.stat().st_size for path in _files_of(source.path))
    return Compressed(output, source_bytes, output.stat().st_size, tuple(choices))


def check_output(source: Source, output: Path) -> None:
    """Raises ModelFileError where the output would be written over its own source."""
    if output.exists() and output.samefile(source.path):
        raise ModelFileError(f"{output}: is the source itself; write elsewhere.")


def _most(choices: list[Choice]) -> TensorType:
    """The type of most weights of the layers."""
    counts: Counter[TensorType] = Counter()
    for choice in choices:
        if len(choice.shape) == 2 and choice.name.startswith("blk."):
            counts[choice.after] += _num_weights(choice)
    return counts.most_common(1)[0][0] if counts else TensorType.F32


def _num_weights(choice: Choice) -> int:
    return math.prod(choice.shape)


def _converted(
    source: Source, choice: Choice, method: str, calibration: Calibration | None, made: Mapping[str, Blocks]
) -> NDArray[np.uint8]:
    raw, there = source.tensors[choice.name].raw, made.get(choice.name)
    if raw is not None and not choice.changes:
        return raw
    if there is not None and there.type is choice.after:
        return there.data
    if len(choice.shape) == 1:
        return _as_floats(choice.after, source.floats(choice.name))
    inputs = inputs_of(calibration, choice.name)
    convert: Quantizer = partial(_as_floats, choice.after)
    if choice.after.block_weights > 1:
        convert = METHODS[method].quantizer(choice.after, choice.shape[1], inputs)
    planned = PlannedTensor(choice.name, choice.after, choice.shape)
    data, end = np.empty(planned.nbytes, np.uint8), 0
    for rows in chunks(source, choice.name):
        part = convert(rows)
        data[end : end + part.size] = part
        end += part.size
    return data


def _as_floats(kind: TensorType, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    if kind is TensorType.BF16:
        bits = weights.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16).reshape(-1).view(np.uint8)
    return weights.astype(np.float16 if kind is TensorType.F16 else np.float32).reshape(-1).view(np.uint8)


def _named(calibration: Calibration | None) -> str:
    """What tells a file made with one calibration from another's, whose interrupted writing must not be mixed."""
    if calibration is None:
        return "none"
    has_hessians = any(inputs.hessian is not None for inputs in calibration.inputs.values())
    return f"{calibration.digest}, {'with' if has_hessians else 'without'} Hessians"


def _provenance(
    source: Source, kind: TensorType, method: str, calibration: Calibration | None, most: TensorType, *, is_mixed: bool
) -> dict[str, bytes]:
    told = {
        "general.file_type": encode_u32(_FILE_TYPES.get(most, _FILE_TYPES[kind])),
        "general.quantization_version": encode_u32(2),
        "miaotui.version": encode_field(__version__),
        "miaotui.compress.recipe": encode_field(f"{'mixed' if is_mixed else kind.name.lower()} {method}"),
        "miaotui.compress.source_sha256": encode_field(source_digest(_files_of(source.path))),
    }
    told["miaotui.compress.calibration"] = encode_field(_named(calibration))
    return told


def _files_of(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
