"""Whole layers left out: the file has fewer blocks, and every step does less of everything.

Which layers: those that change their input least come first (block influence, ShortGPT, arXiv:2403.03853, section 3.1);
among them, one at a time, that whose absence moves the model's distributions least (as Shortened LLaMA,
arXiv:2402.02834, with KL for perplexity).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.prune.dimensions import dimensions
from miaotui.compress.prune.sliding import period_without
from miaotui.compress.source import Source
from miaotui.errors import ConfigError
from miaotui.formats.gguf_write import Field, encode_field, encode_u32

CANDIDATES = 12
"""Layers that are tried at each step, those of least influence: a trial takes seconds."""

Measure = Callable[[Collection[int]], float]
"""Mean KL divergence of the model without these layers from the whole one, in nats."""

Progress = Callable[[Sequence[int], float, int], None]
"""Told after each trial: the layers left out, their KL, and how many trials are still to come at most."""


class WithoutLayers:
    """A source without some of its layers; those behind them move up, their tensors keep their bytes."""

    def __init__(self, source: Source, layers: Collection[int]) -> None:
        """Raises ConfigError for layers that there are not, or that cannot be spared; see `period_without`, too."""
        size = dimensions(source)
        if unknown := sorted(set(layers) - set(range(size.num_layers))):
            raise ConfigError(f"there is no layer {unknown[0]}; the model has layers 0 to {size.num_layers - 1}.")
        check_count(len(set(layers)), size.num_layers)
        self._source = source
        kept = [layer for layer in range(size.num_layers) if layer not in layers]
        key = f"{size.architecture}.block_count"
        changed: dict[str, int] = {key: len(kept)} | period_without(source, kept)
        removed = " ".join(map(str, sorted(set(layers))))
        told = {"miaotui.prune.layers": f"without {removed} of {size.num_layers}"}
        self.path = source.path
        self.metadata = {k: v for k, v in source.metadata.items() if k != _SIZE} | changed | told
        self.fields: dict[str, Field] = {k: v for k, v in source.fields.items() if k != _SIZE}
        self.fields |= {k: encode_u32(v) for k, v in changed.items()} | {k: encode_field(v) for k, v in told.items()}
        self._names = _renumbered(source.tensors, kept)
        self.tensors = {new: replace(source.tensors[old], name=new) for new, old in self._names.items()}

    def floats(self, name: str, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
        """See `Source.floats`."""
        return self._source.floats(self._names[name], first, last)

    def release(self, name: str) -> None:
        """See `Source.release`."""
        self._source.release(self._names[name])


_SIZE = "general.size_label"
"""No longer true of a pruned model."""


def check_count(count: int, num_layers: int) -> None:
    """Raises ConfigError unless that many layers can be left out of so many."""
    if not 1 <= count < num_layers:
        raise ConfigError(
            f"{count} layers cannot be left out of {num_layers}; give a number from 1 to {num_layers - 1}."
        )


def choose(
    measure: Measure,
    count: int,
    order: Sequence[int],
    *,
    candidates: int = CANDIDATES,
    units: Sequence[Collection[int]] | None = None,
    progress: Progress | None = None,
) -> list[int]:
    """The `count` layers to leave out, each the one that costs least beside those before it; the first goes first.

    order: all layers, those of least influence first. candidates: how many of them are tried at each step. units: what
    can only be left out together (`sliding.units`), in place of single layers. Raises ConfigError where units do not
    add up to `count`.
    """
    check_count(count, len(order))
    rank = {layer: at for at, layer in enumerate(order)}
    left = [tuple(unit) for unit in units or [(layer,) for layer in order]]
    left.sort(key=lambda unit: sum(rank[layer] for layer in unit) / len(unit))
    if count not in _sums(left):
        near = min(_sums(left) - {0, len(order)}, key=lambda other: abs(other - count), default=0)
        raise ConfigError(
            f"{count} layers cannot be left out: this model's go {len(left[0])} at a time; leave out {near}."
        )
    chosen: list[int] = []
    while len(chosen) < count:
        fitting = [
            unit
            for unit in left
            if count - len(chosen) - len(unit) in _sums([other for other in left if other is not unit])
        ][:candidates]
        trials: list[float] = []
        for unit in fitting:
            trials.append(measure([*chosen, *unit]))
            if progress is not None:
                ahead = (count - len(chosen)) // len(unit) * candidates - len(trials)
                progress([*chosen, *unit], trials[-1], ahead)
        best = fitting[int(np.argmin(trials))]
        chosen += best
        left.remove(best)
    return chosen


def _sums(units: Sequence[Sequence[int]]) -> set[int]:
    """How many layers some of the units can have together."""
    sums = {0}
    for unit in units:
        sums |= {one + len(unit) for one in sums}
    return sums


def influence_order(influence: NDArray[np.float32]) -> list[int]:
    """Layers [layers] by influence, the least first."""
    return [int(layer) for layer in np.argsort(influence, kind="stable")]


def order_alone(measure: Measure, num_layers: int, progress: Progress | None = None) -> list[int]:
    """Layers by what each costs alone, the least first: where nobody knows their influence."""
    costs: list[float] = []
    for layer in range(num_layers):
        costs.append(measure([layer]))
        if progress is not None:
            progress([layer], costs[-1], num_layers - len(costs))
    return influence_order(np.array(costs, np.float32))


def _renumbered(tensors: Collection[str], kept: Sequence[int]) -> dict[str, str]:
    """New names of the tensors that stay, with their old ones."""
    place = {str(old): new for new, old in enumerate(kept)}
    names: dict[str, str] = {}
    for name in tensors:
        block, _, rest = name.partition(".")
        layer, _, part = rest.partition(".")
        if block != "blk":
            names[name] = name
        elif layer in place:
            names[f"blk.{place[layer]}.{part}"] = name
    return names
