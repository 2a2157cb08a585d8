"""Which type each tensor gets, when bytes, seconds or loss are limited: a knapsack over what was measured."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType


@dataclass(frozen=True, slots=True)
class Option:
    """A type for some tensors: what they then take in bytes and in seconds per token, and how much KL they add."""

    type: TensorType
    num_bytes: int
    seconds: float
    loss: float


@dataclass(frozen=True, slots=True)
class Item:
    """Tensors that share a type, because they are measured or run together."""

    names: tuple[str, ...]
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """One type for each tensor, and what all of them take and add."""

    types: Mapping[str, TensorType]
    num_bytes: int
    seconds: float
    loss: float


Cost = Callable[[Option], float]


def frontier(items: Sequence[Item], cost: Cost) -> Iterator[Mix]:
    """From the cheapest mix to the one that loses least, each step the upgrade that saves most loss for its cost.

    Every mix is the best of all for what it costs (the lower convex hull of each item's options, merged by slope;
    Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers", section III).
    """
    hulls = [_hull(item.options, cost) for item in items]
    at = [0] * len(items)
    heap = [(-_slope(hull, 0, cost), index) for index, hull in enumerate(hulls) if len(hull) > 1]
    heapq.heapify(heap)
    chosen = [hull[0] for hull in hulls]
    yield _mix(items, chosen)
    while heap:
        _, index = heapq.heappop(heap)
        at[index] += 1
        chosen[index] = hulls[index][at[index]]
        if at[index] + 1 < len(hulls[index]):
            heapq.heappush(heap, (-_slope(hulls[index], at[index], cost), index))
        yield _mix(items, chosen)


def choose(
    items: Sequence[Item],
    *,
    max_bytes: float = math.inf,
    max_seconds: float = math.inf,
    max_loss: float | None = None,
    fastest: bool = False,
) -> Mix:
    """The mix that loses least within the limits; with `max_loss` the smallest, or the `fastest`, that loses no more.

    With limits on bytes and seconds both, frontiers of weighted sums of the two are searched. Raises ConfigError with
    what would be possible where nothing fits.
    """
    wants_bytes = not math.isinf(max_bytes) or (max_loss is not None and not fastest)
    wants_seconds = not math.isinf(max_seconds) or (max_loss is not None and fastest)
    mixes = [mix for cost in _costs(items, wants_bytes, wants_seconds) for mix in frontier(items, cost)]
    if max_loss is not None:
        within = [mix for mix in mixes if mix.num_bytes <= max_bytes and mix.seconds <= max_seconds]
        good = [mix for mix in within if mix.loss <= max_loss]
        if good:
            return min(good, key=(lambda mix: mix.seconds) if fastest else (lambda mix: mix.num_bytes))
        least = min(within or mixes, key=lambda mix: mix.loss)
        raise ConfigError(
            f"no mix loses at most {max_loss:g}; the least is {least.loss:.2g}. Allow more, or more bytes."
        )
    fitting = [mix for mix in mixes if mix.num_bytes <= max_bytes and mix.seconds <= max_seconds]
    if not fitting:
        small, fast = min(mix.num_bytes for mix in mixes), min(mix.seconds for mix in mixes)
        raise ConfigError(
            f"no mix keeps within the limits; the smallest has {small / 1e6:.0f} MB of matrices, "
            f"the fastest takes {fast * 1e3:.2f} ms a token. Allow more."
        )
    return min(fitting, key=lambda mix: mix.loss)


def _costs(items: Sequence[Item], wants_bytes: bool, wants_seconds: bool) -> Iterable[Cost]:
    def bytes_of(option: Option) -> float:
        return option.num_bytes

    def seconds_of(option: Option) -> float:
        return option.seconds

    if not wants_seconds:
        return [bytes_of]
    if not wants_bytes:
        return [seconds_of]
    bytes_scale = sum(max(o.num_bytes for o in item.options) for item in items)
    seconds_scale = sum(max(o.seconds for o in item.options) for item in items)

    def weighted(share: float) -> Cost:
        return lambda o: share * o.num_bytes / bytes_scale + (1 - share) * o.seconds / seconds_scale

    return [weighted(step / 8) for step in range(9)]


def _hull(options: Sequence[Option], cost: Cost) -> list[Option]:
    """The options on the lower convex hull of loss over cost, cheapest first."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (cost(o), o.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and _between(hull[-2], option, cost) >= _between(hull[-2], hull[-1], cost):
            hull.pop()
        hull.append(option)
    return hull


def _slope(hull: Sequence[Option], at: int, cost: Cost) -> float:
    return _between(hull[at], hull[at + 1], cost)


def _between(cheap: Option, dear: Option, cost: Cost) -> float:
    """Loss saved per cost added."""
    added = cost(dear) - cost(cheap)
    return (cheap.loss - dear.loss) / added if added > 0 else math.inf


def _mix(items: Sequence[Item], chosen: Sequence[Option]) -> Mix:
    return Mix(
        {name: option.type for item, option in zip(items, chosen, strict=True) for name in item.names},
        sum(option.num_bytes for option in chosen),
        math.fsum(option.seconds for option in chosen),
        math.fsum(option.loss for option in chosen),
    )
