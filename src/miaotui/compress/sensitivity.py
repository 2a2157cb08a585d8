"""What each tensor loses in each type: one measured KL for each group of tensors, other types by their error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.compress.calibration import Calibration, InputStatistics, inputs_of
from miaotui.compress.kept_losses import KeptLosses, Measured
from miaotui.compress.mixed import Item, Option
from miaotui.compress.plan import fitting_type
from miaotui.compress.quantize.method import Method
from miaotui.compress.source import Source, chunks
from miaotui.compress.speed import seconds_per_token
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

TOGETHER = (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up"))
"""Matrices of a layer that read the same rows and run as one product: they get one type."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix as a file would hold it."""

    type: TensorType
    data: NDArray[np.uint8]
    shape: tuple[int, int]


KlOf = Callable[[Mapping[str, Blocks]], float]
"""Mean KL in nats of the model with some matrices replaced from the whole one, over a text."""

Progress = Callable[[int, int], None]
"""Told how many groups are measured, of how many."""


def measure(
    source: Source,
    names: Sequence[str],
    kinds: Sequence[TensorType],
    kl_of: KlOf,
    method: Method,
    *,
    tables: Collection[str] = (),
    calibration: Calibration | None = None,
    kept: KeptLosses | None = None,
    progress: Progress | None = None,
) -> list[Item]:
    """An item for each group of the matrices `names`, with an option for each of the types that fits its rows.

    tables: those of them that are only looked up by rows, which takes bytes but no time to speak of. kept: what is in
    there is not measured again, and what is measured goes there.

    For each group the KL is measured with the type that errs most. That of the other types is taken as proportional to
    their squared error, weighted with the inputs' moments where a calibration has them: KL grows with the square of a
    small error. Memory: one group, twice. Raises ConfigError where no type fits a group, and what `method` does.
    """
    groups = list(_groups(names))
    measured = []
    for index, group in enumerate(groups):
        if progress is not None:
            progress(index, len(groups))
        known = None if kept is None else kept.find(group)
        measured.append(known or _measured(source, group, kinds, kl_of, method, calibration))
        if kept is not None and known is None:
            kept.keep(measured[-1])
    if progress is not None:
        progress(len(groups), len(groups))
    return [_item(source, one, tables) for one in measured]


def _groups(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_group_of(name), []).append(name)
    yield from map(tuple, found.values())


def _group_of(name: str) -> str:
    for index, together in enumerate(TOGETHER):
        for part in together:
            if f".{part}." in name:
                return name.split(f".{part}.", 1)[0] + f" {index}"
    return name


def _measured(
    source: Source,
    group: tuple[str, ...],
    kinds: Sequence[TensorType],
    kl_of: KlOf,
    method: Method,
    calibration: Calibration | None,
) -> Measured:
    errors: dict[TensorType, float] = {}
    worst: dict[str, Blocks] = {}
    for kind in kinds:
        if any(fitting_type(kind, source.tensors[name].shape) is not kind for name in group):
            continue
        blocks, error = {}, 0.0
        for name in group:
            statistics = inputs_of(calibration, name)
            blocks[name], added = quantized(source, name, kind, method, statistics)
            error += added
        if error >= max(errors.values(), default=0.0):
            worst = blocks
        errors[kind] = error
    if not errors:
        names = ", ".join(kind.name for kind in kinds)
        raise ConfigError(f"none of {names} fits the rows of {group[0]}; mix types of blocks of 32, too.")
    return Measured(group, errors, max(kl_of(worst), 0.0))


def _item(source: Source, measured: Measured, tables: Collection[str]) -> Item:
    shapes = {name: source.tensors[name].shape for name in measured.names}
    multiplied = [shape for name, shape in shapes.items() if name not in tables]
    most = max(measured.errors.values())
    options = tuple(
        Option(
            kind,
            sum(rows * columns // kind.block_weights * kind.block_bytes for rows, columns in shapes.values()),
            sum(seconds_per_token(kind, *shape) for shape in multiplied),
            measured.loss * (error / most if most > 0 else 0.0),
        )
        for kind, error in measured.errors.items()
    )
    return Item(measured.names, options)


def quantized(
    source: Source, name: str, kind: TensorType, method: Method, statistics: InputStatistics | None
) -> tuple[Blocks, float]:
    """The blocks, and their squared error over the outputs: of independent inputs of those moments."""
    tensor = source.tensors[name]
    rows_in_all, columns = tensor.shape
    if tensor.raw is not None and tensor.type is kind:
        return Blocks(kind, tensor.raw, (rows_in_all, columns)), 0.0
    quantize = method.quantizer(kind, columns, statistics)
    weigh = np.ones(columns, np.float32) if statistics is None else statistics.moments
    parts, error = [], 0.0
    for rows in chunks(source, name):
        data = quantize(rows)
        away = _native.dequantize(int(kind), data, rows.size).reshape(rows.shape) - rows
        error += float(np.einsum("ij,ij,j->", away, away, weigh, dtype=np.float64))
        parts.append(data)
    source.release(name)
    return Blocks(kind, np.concatenate(parts), (rows_in_all, columns)), error
