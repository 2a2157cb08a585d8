"""Fixed-size pages of KV memory: who uses which, which are free, and which can be found again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from miaotui.engine.prefix_tree import PrefixTree
from miaotui.errors import CapacityError


class BlockPool:
    """Page numbers 0 … num_blocks - 1: used by one or more sequences, idle with a prefix worth finding, or free.

    Free pages are handed out lowest first after a start, most recently freed first later on, so that little memory is
    touched; when there are none, the idle page that was longest of no use is taken. Not safe for concurrent use.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise CapacityError("the KV memory holds no page; raise kv_memory_bytes.")
        self.num_blocks = num_blocks
        self.prefixes = PrefixTree()
        self._free = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # the first is taken first
        self._users = [0] * num_blocks
        self._first_fresh = 0

    @property
    def first_fresh(self) -> int:
        """Pages from this one on have never been handed out; they will be in order."""
        return self._first_fresh

    @property
    def num_free(self) -> int:
        """Pages that `allocate` can still give."""
        return len(self._free) + len(self._idle)

    @property
    def num_idle(self) -> int:
        """Pages that nobody uses and that hold a known prefix."""
        return len(self._idle)

    @property
    def idle(self) -> list[int]:
        """Those pages, the one that was longest of no use first."""
        return list(self._idle)

    def is_idle(self, block: int) -> bool:
        """Whether nobody uses the page and it holds a known prefix."""
        return block in self._idle

    def allocate(self, count: int) -> list[int]:
        """Take pages for one sequence; all or none. Raises CapacityError when there are fewer."""
        if count > self.num_free:
            raise CapacityError(f"{count} KV pages are wanted, {self.num_free} of {self.num_blocks} are free.")
        while len(self._free) < count:
            block, _ = self._idle.popitem(last=False)
            self.prefixes.forget(block)
            self._free.insert(0, block)
        split = len(self._free) - count
        blocks = self._free[split:][::-1]
        del self._free[split:]
        for block in blocks:
            self._users[block] = 1
        self._first_fresh = max(self._first_fresh, max(blocks, default=-1) + 1)
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Count one more user for each of these pages, which must be in use or idle."""
        for block in blocks:
            if self._users[block] == 0:
                if block not in self._idle:
                    raise RuntimeError(f"KV page {block} is shared while free")
                del self._idle[block]
            self._users[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Count one user less for each of a sequence's pages, in order of position.

        Without users a page is idle or free. The last pages of a prefix are of use to the fewest and go first.
        """
        for block in reversed(list(blocks)):
            if self._users[block] < 1:
                raise RuntimeError(f"KV page {block} is released twice")
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self.prefixes:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def forget_prefixes(self) -> None:
        """Free the idle pages; nothing is found again that was computed before."""
        self._free[:0] = self._idle
        self._idle.clear()
        self.prefixes.clear()

    def check_integrity(self, tables: Iterable[Iterable[int]]) -> None:
        """Raise RuntimeError unless exactly the pages in `tables` are in use, each as often as it occurs there."""
        expected = Counter(block for table in tables for block in table)
        for block, users in enumerate(self._users):
            if users != expected[block]:
                raise RuntimeError(f"KV page {block} has {users} users, but {expected[block]} sequences name it")
        unused = [block for block, users in enumerate(self._users) if users == 0]
        if sorted([*self._free, *self._idle]) != unused:
            raise RuntimeError("the lists of free and idle KV pages disagree with the user counts")
        if any(block not in self.prefixes for block in self._idle) or any(b in self.prefixes for b in self._free):
            raise RuntimeError("a KV page is idle without a prefix, or free with one")
