"""Memory for KV pages before they are handed out, while there is nothing else to do.

The first write to memory waits for it: 0.1 ms per MiB where the system has some, but 1.3 to 3.5 ms in a virtual machine
whose host takes back what is free. Sixteen answers at a time were 1 to 18 % slower for it.
"""

from __future__ import annotations

from typing import Protocol

from miaotui.engine.block_pool import BlockPool

AHEAD_BYTES = 256 << 20
"""Of pages that nobody has used yet, so much has memory; at most AHEAD_SHARE of the pool."""
AHEAD_SHARE = 0.25
AT_ONCE_BYTES = 2 << 20
"""Before looking for work again."""


class Populated(Protocol):
    """What is needed of `_native.KvPool`."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers."""

    def populate(self, first_block: int, num_blocks: int) -> bool:
        """Have the OS give memory for pages; False where it does not."""


class PagesAhead:
    """Keeps memory ready for the pages that come next. kv: the memory, and pool: who uses which of its pages."""

    def __init__(self, kv: Populated, pool: BlockPool) -> None:
        self._kv, self._pool = kv, pool
        self._at_once = max(AT_ONCE_BYTES // kv.page_bytes, 1)
        self._num_ahead = int(min(AHEAD_BYTES // kv.page_bytes, pool.num_blocks * AHEAD_SHARE))
        self._end = 0  # pages below have memory

    def of(self, pool: BlockPool) -> PagesAhead:
        """The same memory under another pool: what has been given stays."""
        other = PagesAhead(self._kv, pool)
        other._end = max(self._end, self._pool.first_fresh)
        return other

    def go_on(self) -> bool:
        """Have memory given for some more pages; whether there is enough."""
        first = max(self._end, self._pool.first_fresh)
        wanted = min(self._pool.first_fresh + self._num_ahead, self._pool.num_blocks)
        if first >= wanted:
            return True
        self._end = min(first + self._at_once, wanted)
        if not self._kv.populate(first, self._end - first):
            self._end = self._pool.num_blocks  # pages get theirs when they are written
        return self._end >= wanted
