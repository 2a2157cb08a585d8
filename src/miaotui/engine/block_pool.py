"""Fixed-size pages of KV memory: which are free, and how many sequences use each of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from miaotui.errors import CapacityError

BLOCK_TOKENS = 16
"""Tokens per page; the native core's `KvPool.BLOCK_TOKENS`."""


def num_blocks_for(num_tokens: int) -> int:
    """Pages that so many tokens fill or begin."""
    return -(-num_tokens // BLOCK_TOKENS)


class BlockPool:
    """Page numbers 0 … num_blocks - 1, each free or used by one or more sequences.

    Pages are handed out lowest first after a start, most recently freed first later on, so that little memory is
    touched. Not safe for concurrent use.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise CapacityError("the KV memory holds no page; raise kv_memory_bytes.")
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._users = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Pages that `allocate` can still give."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Take pages for one sequence; all or none. Raises CapacityError when there are fewer."""
        if count > len(self._free):
            raise CapacityError(f"{count} KV pages are wanted, {len(self._free)} of {self.num_blocks} are free.")
        split = len(self._free) - count
        blocks = self._free[split:][::-1]
        del self._free[split:]
        for block in blocks:
            self._users[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Count one more user for each of these pages, which must be in use."""
        for block in blocks:
            if self._users[block] < 1:
                raise RuntimeError(f"KV page {block} is shared while free")
            self._users[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Count one user less for each of these pages; without users a page is free again."""
        for block in blocks:
            if self._users[block] < 1:
                raise RuntimeError(f"KV page {block} is released twice")
            self._users[block] -= 1
            if self._users[block] == 0:
                self._free.append(block)

    def check_integrity(self, tables: Iterable[Iterable[int]]) -> None:
        """Raise RuntimeError unless exactly the pages in `tables` are in use, each as often as it occurs there."""
        expected = Counter(block for table in tables for block in table)
        for block, users in enumerate(self._users):
            if users != expected[block]:
                raise RuntimeError(f"KV page {block} has {users} users, but {expected[block]} sequences name it")
        if sorted(self._free) != [block for block, users in enumerate(self._users) if users == 0]:
            raise RuntimeError("the list of free KV pages disagrees with the user counts")
