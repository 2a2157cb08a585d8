"""Hessians of a model's inputs, computed a layer at a time when they are asked for, within a budget of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibrate.moments import HessianSum
from miaotui.compress.calibrate.sections import Section
from miaotui.compress.calibrate.walk import Walk
from miaotui.errors import CapacityError
from miaotui.graph.nodes import Value

Floats = NDArray[np.float32]
Found = Mapping[Value, Floats]


class Hessians:
    """Those of the layer asked for last are held, and of layers before it as many as the budget allows.

    Asking layer by layer, front to back, costs one pass over the text; going back behind what is held costs the pass
    from the beginning. Threads may ask at once and get their turns.
    """

    def __init__(self, walk: Walk, parts: tuple[Section, ...], budget_bytes: int) -> None:
        """Raises CapacityError where the largest layer does not fit into the budget."""
        self._walk, self._parts, self._budget_bytes = walk, parts, budget_bytes
        self._held: OrderedDict[int, Found] = OrderedDict()
        self._kept: dict[int, Found] = {}
        self._lock = threading.Lock()
        self.peak_bytes = 0
        """Most bytes ever held: rows between layers, Hessians, and sums on their way to them."""
        needed = walk.most_bytes + max(map(_bytes, parts)) + sum(_bytes(part) for part in parts if part.exit is None)
        if needed > budget_bytes:
            raise CapacityError(
                f"the Hessians of one layer and the rows of {walk.num_tokens} tokens need {_mb(needed)}, more than the "
                f"{_mb(budget_bytes)} allowed; allow more, or give less text."
            )

    def keep(self, index: int, found: Found) -> None:
        """Hold a section's Hessians for good: the head's, which lies last and is often asked for first."""
        self._kept[index] = found

    def get(self, index: int, value: Value) -> Floats:
        """The mean of x xᵀ over all rows x of a value that section `index` reads, [columns, columns], read-only."""
        with self._lock:
            if index in self._kept:
                return self._kept[index][value]
            if index not in self._held:
                self._compute(index)
            self._held.move_to_end(index)
            return self._held[index][value]

    def _compute(self, index: int) -> None:
        while self._held and self._bytes_with(index) > self._budget_bytes:
            self._held.popitem(last=False)
        self.peak_bytes = max(self.peak_bytes, self._bytes_with(index))
        if self._walk.index > index:
            self._walk.restart()
        while self._walk.index < index:
            self._walk.advance()
        sums = HessianSums(self._parts[index])
        self._walk.advance(sums.add)
        self._held[index] = sums.results()

    def _bytes_with(self, index: int) -> int:
        held = sum(h.nbytes for found in (*self._held.values(), *self._kept.values()) for h in found.values())
        return self._walk.most_bytes + held + _bytes(self._parts[index])


class HessianSums:
    """Those of one section; `add` is a look for `Walk.advance`."""

    def __init__(self, part: Section) -> None:
        self._sums = {value: HessianSum(value.width) for value in part.readers}

    def add(self, rows: Found, entry: Value | None, exit: Value | None) -> None:
        """The rows of a step."""
        for value, one in self._sums.items():
            one.add(rows[value])

    def results(self) -> Found:
        """The means; nothing can be added afterwards."""
        return {value: one.result() for value, one in self._sums.items()}


def _bytes(part: Section) -> int:
    return sum(4 * value.width**2 for value in part.readers)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.0f} MB"
