"""From limits to types: sensitivities are measured, a mix is chosen, and its own loss is measured before it counts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from miaotui.compress.calibration import Calibration, inputs_of
from miaotui.compress.kept_losses import KeptLosses
from miaotui.compress.mixed import Item, Mix, choose, frontier
from miaotui.compress.quantize.method import Method
from miaotui.compress.sensitivity import Blocks, KlOf, Progress, measure, quantized
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

ROUNDS = 4
"""So many mixes are tried: the estimates are corrected by what one was measured to lose."""
CLOSE = 1.1
"""Estimates that are off by less than this factor are good enough."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the matrices may take: bytes, seconds a token, and what all of them may lose in KL.

    fastest: of those within `max_loss` the fastest is wanted, not the smallest.
    """

    max_bytes: float = math.inf
    max_seconds: float = math.inf
    max_loss: float | None = None
    fastest: bool = False


@dataclass(frozen=True, slots=True)
class Mixture:
    """The types that were chosen, the KL that was measured with them, and the frontier they were chosen from.

    blocks: the matrices in these types.
    """

    mix: Mix
    kl: float
    blocks: Mapping[str, Blocks]
    frontier: tuple[Mix, ...]


def mixture(
    source: Source,
    names: Sequence[str],
    kinds: Sequence[TensorType],
    kl_of: KlOf,
    method: Method,
    limits: Limits,
    *,
    tables: Collection[str] = (),
    calibration: Calibration | None = None,
    kept: KeptLosses | None = None,
    progress: Progress | None = None,
) -> Mixture:
    """Types for the matrices `names`, of which `tables` are only looked up by rows and count no seconds.

    The losses of single groups do not quite add up, so a mix's own KL is measured, and the estimates are scaled by what
    they were off, up to three times. Raises ConfigError with what would be possible where nothing keeps within the
    limits.
    """
    items = measure(
        source, names, kinds, kl_of, method, tables=tables, calibration=calibration, kept=kept, progress=progress
    )
    best: _Tried | None = None
    blocks: Mapping[str, Blocks] = {}
    least = math.inf
    for _ in range(ROUNDS):
        mix, is_last = _chosen(items, limits)
        if is_last and best is not None:
            break
        blocks = _blocks(source, mix.types, method, calibration, blocks)
        kl = max(kl_of(blocks), 0.0)
        least = min(least, kl)
        if limits.max_loss is None or kl <= limits.max_loss:
            best = _better(best, (mix, kl, blocks), limits)
        if is_last or mix.loss <= 0 or max(kl, mix.loss) <= CLOSE * min(kl, mix.loss):
            break
        items = _scaled(items, kl / mix.loss)
    if best is None:
        raise ConfigError(
            f"no mix loses at most {limits.max_loss:g}; the least is {least:.2g}. Allow more, or more bytes."
        )
    return Mixture(*best, tuple(frontier(items, lambda option: option.num_bytes)))


_Tried = tuple[Mix, float, Mapping[str, Blocks]]


def _chosen(items: Sequence[Item], limits: Limits) -> tuple[Mix, bool]:
    """The mix to try, and whether no other is to be tried after it. Raises ConfigError where no mix is small enough.

    Estimates may be too high: where by them all lose too much, it is the one that loses least, to be measured.
    """
    within = partial(choose, items, max_bytes=limits.max_bytes, max_seconds=limits.max_seconds)
    if limits.max_loss is not None:
        with contextlib.suppress(ConfigError):
            return within(max_loss=limits.max_loss, fastest=limits.fastest), False
    return within(), True


def _better(one: _Tried | None, other: _Tried, limits: Limits) -> _Tried:
    """Of two that keep within the limits: the smaller, or the faster where that is wanted."""
    if one is None or limits.max_loss is None:
        return other
    if limits.fastest:
        return min(one, other, key=lambda found: found[0].seconds)
    return min(one, other, key=lambda found: found[0].num_bytes)


def _blocks(
    source: Source,
    types: Mapping[str, TensorType],
    method: Method,
    calibration: Calibration | None,
    known: Mapping[str, Blocks],
) -> dict[str, Blocks]:
    """Matrices in these types; those of `known` are not made again."""
    return {
        name: known[name]
        if name in known and known[name].type is kind
        else quantized(source, name, kind, method, inputs_of(calibration, name))[0]
        for name, kind in types.items()
    }


def _scaled(items: Sequence[Item], factor: float) -> list[Item]:
    return [
        replace(item, options=tuple(replace(option, loss=option.loss * factor) for option in item.options))
        for item in items
    ]
