"""Which process computes an answer that several of them are asked for at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from miaotui.answers.store import Claims
from miaotui.errors import StoreError

LEASE_S = 5.0
"""A process that dies keeps others waiting for no longer than this."""
RENEW_S = 1.5
ASK_S = 0.25
"""Longer than this, a store is not waited for: the answer is computed, perhaps twice."""


class Leases:
    """The claims of this process on answers it computes, renewed for as long as that takes."""

    def __init__(self, store: Claims) -> None:
        self._store = store
        self._owner = secrets.token_hex(8)
        self._held: set[bytes] = set()
        self._renewing = asyncio.create_task(self._renew())
        self._releasing: set[asyncio.Task[None]] = set()

    async def take(self, key: bytes) -> bool:
        """Whether this process is to compute it; false while another one does. True where nobody can tell."""
        if not await self._claim(key):
            return False
        self._held.add(key)
        return True

    def give_back(self, key: bytes, after: Callable[[], Awaitable[None]] | None = None) -> None:
        """It is computed, or given up, as soon as `after` is done. Harmless for what is not held."""
        if key in self._held:
            self._held.discard(key)
            task = asyncio.create_task(self._release(key, after))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def close(self) -> None:
        """Give everything back."""
        self._renewing.cancel()
        for key in list(self._held):
            self.give_back(key)
        await asyncio.gather(self._renewing, *self._releasing, return_exceptions=True)

    async def _claim(self, key: bytes) -> bool:
        try:
            async with asyncio.timeout(ASK_S):
                return await self._store.claim(key, self._owner, LEASE_S)
        except (StoreError, TimeoutError):
            return True

    async def _release(self, key: bytes, after: Callable[[], Awaitable[None]] | None) -> None:
        if after is not None:
            await after()
        try:
            async with asyncio.timeout(LEASE_S):
                await self._store.release(key, self._owner)
        except (StoreError, TimeoutError):
            return  # it ends by itself

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            for key in list(self._held):
                await self._claim(key)
