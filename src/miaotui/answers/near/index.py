"""All questions that near hits may come from, by tenant and group, searched by similarity."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Final

from miaotui.answers.near.shelf import Found, Shelf
from miaotui.answers.near.vectors import Codes

MAX_BYTES: Final = 512 * 2**20
_ENTRY_BYTES: Final = 500  # keys, dictionary and list entries of one question, measured

Name = tuple[str, bytes, bytes]
"""Tenant, group and key."""


class NearIndex:
    """Shelves by (tenant, group): a search never sees a question of another tenant or group. One lock, one writer.

    max_bytes: what all vectors and questions may take; beyond, those go whose answers are oldest (`num_dropped` counts
    them). A question that is older than all others, or too large by itself, is not taken in (`num_refused`).
    """

    def __init__(self, max_bytes: int = MAX_BYTES, new_shelf: Callable[[int], Shelf] = Shelf) -> None:
        self._shelves: dict[tuple[str, bytes], Shelf] = {}
        self._max_bytes = max_bytes
        self._new_shelf = new_shelf
        self._sizes: dict[Name, tuple[int, int]] = {}  # bytes, and the number under which it stands in `_by_age`
        self._by_age: list[tuple[float, int, Name]] = []  # a heap; what has left stays until it comes up
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.num_bytes = 0
        self.num_refused = 0
        self.num_dropped = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, tenant: str, group: bytes, key: bytes, question: str, codes: Codes, created_s: float = 0.0) -> bool:
        """Take a question in, in place of one with its key; whether there was room. created_s: when it was answered."""
        size = codes.size + 4 * len(question) + _ENTRY_BYTES
        with self._lock:
            self._remove(tenant, group, key)
            if not self._make_room(size, created_s):
                self.num_refused += 1
                return False
            shelf = self._shelves.get((tenant, group))
            if shelf is None or (shelf.num_codes != codes.size and len(shelf) == 0):
                shelf = self._shelves[tenant, group] = self._new_shelf(codes.size)
            shelf.put(key, question, codes)
            self._note((tenant, group, key), size, created_s)
            return True

    def names(self) -> list[Name]:
        """Tenant, group and key of every question."""
        with self._lock:
            return list(self._sizes)

    def forget(self, tenant: str, key: bytes) -> None:
        """Forget an answer's question, of whatever group."""
        with self._lock:
            for name in [(each, group, key) for each, group in self._shelves if each == tenant]:
                self._remove(*name)

    def remove(self, tenant: str, group: bytes, key: bytes) -> bool:
        """Forget a question; whether there was one."""
        with self._lock:
            return self._remove(tenant, group, key)

    def _remove(self, tenant: str, group: bytes, key: bytes) -> bool:
        noted = self._sizes.pop((tenant, group, key), None)
        if noted is None:
            return False
        self.num_bytes -= noted[0]
        shelf = self._shelves[tenant, group]
        shelf.remove(key)
        if len(shelf) == 0:
            del self._shelves[tenant, group]
        return True

    def _note(self, name: Name, size: int, created_s: float) -> None:
        number = next(self._numbers)
        self._sizes[name] = size, number
        self.num_bytes += size
        heapq.heappush(self._by_age, (created_s, number, name))
        if len(self._by_age) > 2 * len(self._sizes) + 64:  # mostly of what has left
            self._by_age = [one for one in self._by_age if self._is_there(one)]
            heapq.heapify(self._by_age)

    def _is_there(self, one: tuple[float, int, Name]) -> bool:
        noted = self._sizes.get(one[2])
        return noted is not None and noted[1] == one[1]

    def _make_room(self, size: int, created_s: float) -> bool:
        """Drop older questions for one of that size; whether there is room then."""
        if size > self._max_bytes:
            return False
        while self.num_bytes + size > self._max_bytes:
            oldest = self._by_age[0]
            if self._is_there(oldest):
                if oldest[0] > created_s:
                    return False
                self._remove(*oldest[2])
                self.num_dropped += 1
            heapq.heappop(self._by_age)
        return True

    def search(self, tenant: str, group: bytes, codes: Codes, count: int = 8, at_least: float = 0.0) -> list[Found]:
        """The closest questions of that tenant and group, closest first."""
        with self._lock:
            shelf = self._shelves.get((tenant, group))
            return [] if shelf is None else shelf.search(codes, count, at_least)

    def size_of(self, tenant: str, group: bytes) -> int:
        """How many questions one tenant has in one group."""
        with self._lock:
            shelf = self._shelves.get((tenant, group))
            return 0 if shelf is None else len(shelf)
