"""The questions that may answer each other: one tenant's, of one group. Exact search through all of their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.answers.near.approximate import Approximate
from miaotui.answers.near.vectors import Codes, length_of
from miaotui.errors import InvalidRequestError

EXACT_ROWS: Final = 100_000  # up to here all of them are looked at: 3.3 ms for 384 dimensions, measured
_MOVED_AT_ONCE: Final = 16  # a question more costs a few milliseconds while the graph is built, not a minute once


@dataclass(frozen=True, slots=True)
class Found:
    """A kept question and how close it is: the cosine of the codes."""

    key: bytes
    question: str
    similarity: float


class Shelf:
    """Vectors in one block of memory that grows by doubling; a removed one is replaced by the last.

    Not safe for threads: `index` has the lock.
    """

    def __init__(self, num_codes: int, exact_rows: int = EXACT_ROWS) -> None:
        self._codes: NDArray[np.int8] = np.zeros((16, num_codes), np.int8)
        self._lengths: NDArray[np.float32] = np.ones(16, np.float32)
        self._keys: list[bytes] = []
        self._questions: list[str] = []
        self._places: dict[bytes, int] = {}
        self._exact_rows = exact_rows
        self._approximate: Approximate | None = None
        self._num_moved = 0  # places below it are in the graph

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def num_codes(self) -> int:
        """Bytes of one vector."""
        return int(self._codes.shape[1])

    @property
    def uses_graph(self) -> bool:
        """Whether searches look at candidates of the graph only."""
        return self._approximate is not None and self._num_moved == len(self._keys)

    def put(self, key: bytes, question: str, codes: Codes) -> None:
        """Keep a question, in place of one with its key."""
        if codes.size != self.num_codes:
            raise InvalidRequestError(f"the vector has {codes.size} codes, those beside it {self.num_codes}")
        self.remove(key)
        place = len(self._keys)
        if place == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
            self._lengths = np.concatenate([self._lengths, np.ones_like(self._lengths)])
        self._codes[place], self._lengths[place] = codes, length_of(codes)
        self._keys.append(key)
        self._questions.append(question)
        self._places[key] = place
        self._move_some()

    def remove(self, key: bytes) -> bool:
        """Forget a question; whether there was one."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        last = len(self._keys) - 1
        if place != last:
            self._codes[place], self._lengths[place] = self._codes[last], self._lengths[last]
            self._keys[place], self._questions[place] = self._keys[last], self._questions[last]
            self._places[self._keys[place]] = place
        if self._approximate is not None:
            self._approximate.remove(key)
            if place < self._num_moved <= last:
                self._approximate.put(self._keys[place], self._codes[place])
        self._keys.pop()
        self._questions.pop()
        self._num_moved = min(self._num_moved, last)
        return True

    def _move_some(self) -> None:
        """Once there are too many to look at all, bring more of them into the graph; it is used when it has all."""
        if self._approximate is None:
            if len(self._keys) <= self._exact_rows or not Approximate.is_here():
                return
            self._approximate = Approximate(self.num_codes)
        end = min(self._num_moved + _MOVED_AT_ONCE, len(self._keys))
        for place in range(self._num_moved, end):
            self._approximate.put(self._keys[place], self._codes[place])
        self._num_moved = end

    def search(self, codes: Codes, count: int, at_least: float) -> list[Found]:
        """The closest questions, closest first; of equals, the older first."""
        if codes.size != self.num_codes or not self._keys:
            return []
        if self._approximate is None or not self.uses_graph:
            places = np.arange(len(self._keys))
            dots = _native.dot_rows_i8(self._codes[: len(self._keys)], codes)
        else:
            near = self._approximate.search(codes, 4 * count)
            places = np.array([self._places[key] for key in near if key in self._places], np.int64)
            dots = _native.dot_rows_i8(np.ascontiguousarray(self._codes[places]), codes)
        cosines = dots / (self._lengths[places] * np.float32(length_of(codes)))
        close = np.flatnonzero(cosines >= at_least)
        best = close[np.argsort(-cosines[close], kind="stable")][:count]
        return [
            Found(self._keys[place], self._questions[place], min(1.0, float(cosine)))
            for place, cosine in zip(places[best], cosines[best], strict=True)
        ]
