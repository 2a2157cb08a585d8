"""All questions that near hits may come from, by tenant and group, searched by similarity."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from miaotui.answers.near.shelf import Found, Shelf
from miaotui.answers.near.vectors import Codes

MAX_BYTES: Final = 512 * 2**20
_ENTRY_BYTES: Final = 300  # keys, dictionary and list entries of one question, measured


class NearIndex:
    """Shelves by (tenant, group): a search never sees a question of another tenant or group. One lock, one writer.

    max_bytes: what all vectors and questions may take; beyond, questions are not taken in (`num_refused` counts them).
    """

    def __init__(self, max_bytes: int = MAX_BYTES, new_shelf: Callable[[int], Shelf] = Shelf) -> None:
        self._shelves: dict[tuple[str, bytes], Shelf] = {}
        self._max_bytes = max_bytes
        self._new_shelf = new_shelf
        self._sizes: dict[tuple[str, bytes, bytes], int] = {}
        self._lock = threading.Lock()
        self.num_bytes = 0
        self.num_refused = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, tenant: str, group: bytes, key: bytes, question: str, codes: Codes) -> bool:
        """Take a question in, in place of one with its key; whether there was room."""
        size = codes.size + 4 * len(question) + _ENTRY_BYTES
        with self._lock:
            self._remove(tenant, group, key)
            if self.num_bytes + size > self._max_bytes:
                self.num_refused += 1
                return False
            shelf = self._shelves.get((tenant, group))
            if shelf is None or (shelf.num_codes != codes.size and len(shelf) == 0):
                shelf = self._shelves[tenant, group] = self._new_shelf(codes.size)
            shelf.put(key, question, codes)
            self._sizes[tenant, group, key] = size
            self.num_bytes += size
            return True

    def remove(self, tenant: str, group: bytes, key: bytes) -> bool:
        """Forget a question; whether there was one."""
        with self._lock:
            return self._remove(tenant, group, key)

    def _remove(self, tenant: str, group: bytes, key: bytes) -> bool:
        size = self._sizes.pop((tenant, group, key), None)
        if size is None:
            return False
        self.num_bytes -= size
        shelf = self._shelves[tenant, group]
        shelf.remove(key)
        if len(shelf) == 0:
            del self._shelves[tenant, group]
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
