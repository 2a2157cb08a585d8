"""A store that may fail: asked for a bounded time, left alone for a while after a failure, opened again by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter, Name, Order, Store
from miaotui.errors import StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")

READ_S = 0.25
"""Longer than this, nobody waits for a kept answer."""
WRITE_S = 10.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Level:
    """One store of a cache. Every method raises StoreError instead of waiting long.

    While the store is down it is not asked at all; after each pause, twice as long as the one before, the next caller
    has it opened again.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.num_errors = 0
        self.last_error = ""
        self._now = now
        self._pause_s = 0.0
        self._closed_until_s: float | None = None  # None: it works
        self._opening: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The store's."""
        return self.store.name

    @property
    def works(self) -> bool:
        """Whether it is asked."""
        return self._closed_until_s is None

    async def open(self) -> None:
        """Connect; a failure is counted, and tried again later."""
        with suppress(StoreError):
            await self._do(self.store.open(), WRITE_S)

    async def close(self) -> None:
        """Let go of it."""
        if self._opening is not None:
            self._opening.cancel()
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(WRITE_S):
                await self.store.close()

    async def get(self, name: Name, now_s: float) -> Row | None:
        """As `Store.get`."""
        self._check()
        return await self._do(self.store.get(name, now_s), READ_S)

    async def put(self, rows: Sequence[Row]) -> None:
        """As `Store.put`."""
        self._check()
        await self._do(self.store.put(rows), WRITE_S)

    async def delete(self, which: Filter) -> int:
        """As `Store.delete`."""
        self._check()
        return await self._do(self.store.delete(which), WRITE_S)

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """As `Store.rows`."""
        self._check()
        return await self._do(self.store.rows(which, now_s=now_s, order=order, limit=limit, behind=behind), WRITE_S)

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """As `Store.touch`."""
        self._check()
        await self._do(self.store.touch(uses), WRITE_S)

    async def count(self, which: Filter) -> Count:
        """As `Store.count`."""
        self._check()
        return await self._do(self.store.count(which), WRITE_S)

    def _check(self) -> None:
        """Raise StoreError while it is down; see that somebody opens it when its pause is over."""
        if self._closed_until_s is None:
            return
        if self._now() >= self._closed_until_s and (self._opening is None or self._opening.done()):
            self._opening = asyncio.ensure_future(self._reopen())
        raise StoreError(f"the {self.name} store is down: {self.last_error}")

    async def _reopen(self) -> None:
        with suppress(StoreError):
            await self._do(self.store.open(), WRITE_S)

    async def _do(self, work: Awaitable[T], seconds: float) -> T:
        """Do it in that time. Raises StoreError, after which the store is left alone for a while."""
        try:
            async with asyncio.timeout(seconds):
                result = await work
        except (StoreError, TimeoutError) as error:
            self._fail(str(error) or f"no reply within {seconds:g} s")
            raise StoreError(f"the {self.name} store is down: {self.last_error}") from error
        if self._closed_until_s is not None:
            log.warning("the %s store works again", self.name)
        self._closed_until_s, self._pause_s = None, 0.0
        return result

    def _fail(self, reason: str) -> None:
        self.num_errors += 1
        if self._closed_until_s is None or reason != self.last_error:
            log.warning("the %s store has failed; answers are computed without it: %s", self.name, reason)
        self.last_error = reason
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._closed_until_s = self._now() + self._pause_s
