"""A model's weights as floats, tensor by tensor: a file, or what a transform makes of another source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError
from miaotui.formats.gguf import GgufFile
from miaotui.formats.gguf_write import Field
from miaotui.formats.weights import Tensor, TensorType

Floats = NDArray[np.float32]

MAX_WEIGHT = 1e6
"""Larger ones no model has; scales of 16 bits could not hold them, nor sums of their squares."""
MAX_HALF = 65504.0
"""The largest float16."""
_LAYER = re.compile(r"blk\.(\d+)\.")
CHUNK_WEIGHTS = 1 << 22
"""Weights that are floats at one time, where whole rows are not more."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor's GGUF name, shape in NumPy order, and type in the file; `raw` are its bytes while they still hold."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    raw: NDArray[np.uint8] | None = None


class Source(Protocol):
    """What is compressed. Tensors are read one by one and never kept, so that memory stays bounded."""

    @property
    def path(self) -> Path:
        """The file it all began with."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """Values by key, as `GgufFile.metadata`."""

    @property
    def fields(self) -> Mapping[str, Field]:
        """The same values as they are written to a file."""

    @property
    def tensors(self) -> Mapping[str, SourceTensor]:
        """By name, as `in_layer_order` has them, which is how they are written."""

    def floats(self, name: str, first: int = 0, last: int | None = None) -> Floats:
        """Rows first … last of a matrix [rows, columns], or a vector; raises ModelFileError unless all are finite."""

    def release(self, name: str) -> None:
        """Gives back the memory that reading the tensor took."""


def in_layer_order(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Front to back, behind what belongs to no layer. Many files have layer 10 before layer 2.

    Whoever asks for Hessians, which come layer by layer, would have the text read again from the beginning each time.
    """
    return dict(sorted(tensors.items(), key=lambda item: _layer(item[0])))


def _layer(name: str) -> int:
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def check_runs(source: Source) -> None:
    """Whether what it all began with is a model that runs: for transforms that rely on its names, shapes and sizes.

    Raises what `open_model` and `build_graph` do.
    """
    from miaotui.formats import open_model
    from miaotui.models import build_graph

    file = open_model(source.path)
    build_graph(file.spec, file.weights)


def chunks(source: Source, name: str) -> Iterator[Floats]:
    """A matrix's rows, some at a time. Raises ModelFileError for weights that float16 scales cannot hold."""
    rows, columns = source.tensors[name].shape
    step = max(CHUNK_WEIGHTS // columns, 1)
    for first in range(0, rows, step):
        part = source.floats(name, first, min(first + step, rows))
        if part.size and np.abs(part).max() > MAX_HALF:
            raise ModelFileError(f"tensor '{name}' holds weights beyond {MAX_HALF:g}, which no scale can hold.")
        yield part


def read_rows(tensor: Tensor, first: int, last: int | None) -> Floats:
    """Rows of a file's matrix, or a vector, as `Source.floats` gives them."""
    from miaotui import _native

    columns = tensor.shape[-1]
    row_bytes = columns // tensor.type.block_weights * tensor.type.block_bytes
    last = tensor.num_weights // columns if last is None else last
    data = tensor.data[first * row_bytes : last * row_bytes]
    weights = _native.dequantize(int(tensor.type), data, (last - first) * columns)
    if not (np.abs(weights) <= MAX_WEIGHT).all():  # NaN is not, either
        raise ModelFileError(
            f"tensor '{tensor.name}' holds weights that are not finite, or beyond {MAX_WEIGHT:g}; the file is damaged."
        )
    return weights if len(tensor.shape) == 1 else weights.reshape(-1, columns)


class FileSource:
    """The tensors of a GGUF file."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self.path = file.path
        self.metadata = file.metadata
        self.fields: Mapping[str, Field] = file.fields
        tensors = {t.name: SourceTensor(t.name, t.shape, t.type, t.data) for t in file.weights.values()}
        self.tensors = in_layer_order(tensors)

    def floats(self, name: str, first: int = 0, last: int | None = None) -> Floats:
        """See `Source.floats`."""
        return read_rows(self._file.weights[name], first, last)

    def release(self, name: str) -> None:
        """See `Source.release`."""
        self._file.weights.release(name)


@dataclass(frozen=True, slots=True)
class Change:
    """What a transform makes of a tensor: its new shape, and its floats whenever they are asked for.

    `rows` gets first and last (of the new tensor) and gives these rows; a vector is asked for as a whole.
    """

    shape: tuple[int, ...]
    rows: Callable[[int, int], Floats]


class Changed:
    """A source with some tensors changed, added or (None) left out, and some metadata replaced or (None) left out."""

    def __init__(
        self,
        source: Source,
        changes: Mapping[str, Change | None],
        *,
        metadata: Mapping[str, object] | None = None,
        fields: Mapping[str, Field | None] | None = None,
    ) -> None:
        self._source = source
        self._changes = changes
        self.path = source.path
        self.metadata = {**source.metadata, **(metadata or {})}
        self.fields = {key: value for key, value in {**source.fields, **(fields or {})}.items() if value is not None}
        tensors = {name: tensor for name, tensor in source.tensors.items() if name not in changes}
        for name, change in changes.items():
            if change is not None:
                before = source.tensors.get(name, SourceTensor(name, change.shape, TensorType.F32))
                tensors[name] = replace(before, shape=change.shape, raw=None)
        self.tensors = in_layer_order(tensors)

    def floats(self, name: str, first: int = 0, last: int | None = None) -> Floats:
        """See `Source.floats`."""
        change = self._changes.get(name)
        if change is None:
            return self._source.floats(name, first, last)
        return change.rows(first, change.shape[0] if last is None else last)

    def release(self, name: str) -> None:
        """See `Source.release`."""
        if name in self._source.tensors:
            self._source.release(name)
