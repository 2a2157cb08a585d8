"""Search through more questions than can all be looked at: usearch's graph over the same codes (the extra `near`).

Its results are only candidates, their similarity is computed anew and exactly. Not safe for threads: usearch lost nodes
when several added at once (its issue 735), so there is one writer.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from miaotui.answers.near.vectors import Codes


class Approximate:
    """Keys by nearness. usearch names vectors by integers; those are counted up and never used again."""

    def __init__(self, num_codes: int) -> None:
        usearch: Any = importlib.import_module("usearch.index")
        self._index = usearch.Index(ndim=num_codes, metric="cos", dtype="i8")
        self._labels: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._next = 0

    @staticmethod
    def is_here() -> bool:
        """Whether usearch is installed."""
        return importlib.util.find_spec("usearch") is not None

    def put(self, key: bytes, codes: Codes) -> None:
        """Add a vector under a new key."""
        self._index.add(self._next, codes, threads=1)
        self._labels[key], self._keys[self._next] = self._next, key
        self._next += 1

    def remove(self, key: bytes) -> None:
        """Forget a vector; no effect without one."""
        label = self._labels.pop(key, None)
        if label is not None:
            del self._keys[label]
            self._index.remove(label)

    def search(self, codes: Codes, count: int) -> list[bytes]:
        """Keys of about the closest vectors."""
        found = self._index.search(codes, count, threads=1)
        return [self._keys[int(label)] for label in found.keys if int(label) in self._keys]
