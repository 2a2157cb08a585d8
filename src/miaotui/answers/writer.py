"""Rows on their way to the stores: nobody who asks a question waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from miaotui.answers.level import Level
from miaotui.answers.row import Row
from miaotui.answers.store import KINDS, Filter, Name
from miaotui.errors import StoreError

MAX_ROWS = 4096
MAX_BYTES = 64 << 20
"""More than this is dropped, and counted: the stores are slower than the model."""
BATCH = 256
TOUCH_S = 2.0
"""Last uses are written down so often."""
SWEEP_S = 600.0
"""So often rows that have expired are removed: decisions of last month, answers beyond their time."""

log = logging.getLogger(__name__)


class Writer:
    """Puts rows into every level, many at once, in the order they came; now and then removes what has expired."""

    def __init__(self, levels: Sequence[Level], now: Callable[[], float] = time.time) -> None:
        self.num_dropped = 0
        self._levels = levels
        self._rows: deque[Row] = deque()
        self._num_bytes = 0
        self._uses: dict[Name, float] = {}
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._now = now
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._sweep_often())]

    def add(self, row: Row) -> None:
        """Have a row kept soon."""
        if len(self._rows) >= MAX_ROWS or self._num_bytes + row.num_bytes > MAX_BYTES:
            self.num_dropped += 1
            return
        self._rows.append(row)
        self._num_bytes += row.num_bytes
        self._empty.clear()
        self._arrived.set()

    def used(self, name: Name, now_s: float) -> None:
        """Have the last use of a row noted."""
        if len(self._uses) < MAX_ROWS:
            self._uses[name] = now_s

    async def flush(self) -> None:
        """Wait until all that was added has been put, or dropped."""
        await self._empty.wait()

    async def close(self) -> None:
        """The same, and end."""
        await self.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._touch()

    async def sweep(self) -> None:
        """Remove what has expired, of every kind and tenant."""
        for level in self._levels:
            try:
                for kind in KINDS if level.works else ():
                    # Past the level's time limit: a store removes some at a time, and others are served in between.
                    await level.store.delete(Filter(kind, expired_s=self._now()))
            except StoreError as error:  # whoever needs the store finds out; this can wait
                log.info("expired rows of the %s store stay for now: %s", level.name, error)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TOUCH_S):
                    await self._arrived.wait()
            except TimeoutError:
                await self._touch()
                continue
            self._arrived.clear()
            while self._rows:
                await self._put([self._rows.popleft() for _ in range(min(BATCH, len(self._rows)))])
            self._empty.set()

    async def _put(self, rows: list[Row]) -> None:
        self._num_bytes -= sum(row.num_bytes for row in rows)
        for level in self._levels:
            try:
                await level.put(rows)
            except StoreError:  # it is counted there
                self.num_dropped += len(rows)

    async def _touch(self) -> None:
        uses, self._uses = self._uses, {}
        if not uses:
            return
        for level in self._levels:
            try:
                await level.touch(uses)
            except StoreError:
                continue
