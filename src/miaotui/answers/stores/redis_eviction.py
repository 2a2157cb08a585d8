"""Keeps the answers in Redis within a number of bytes: those go that were not used for longest, of whatever tenant."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from miaotui.answers.stores import redis_scripts as scripts
from miaotui.answers.stores.redis_link import RedisLink
from miaotui.answers.stores.redis_rows import Keys
from miaotui.answers.stores.texts import to_text

ROWS_LOOKED_AT = 16
"""Of each tenant, at a time."""
ROUNDS = 256
"""A limit that was lowered is reached over several puts."""
TURN_MS = 5000
"""For so long another process leaves it to this one, should this one end in the middle."""


class Eviction:
    """One at a time, or several would each remove what is too much."""

    def __init__(self, link: RedisLink, keys: Keys, max_bytes: int) -> None:
        self._link = link
        self._keys = keys
        self._max_bytes = max_bytes
        self._turn = asyncio.Lock()
        self._me = secrets.token_bytes(8)

    async def run(self) -> None:
        """Remove the least recently used answers until the others are within the limit, unless another process does."""
        async with self._turn:
            if await self._excess() <= 0:
                return
            turn = self._keys.claim(b"eviction")
            if not await self._link.script(scripts.CLAIM, turn, [self._me, TURN_MS]):
                return
            try:
                for _ in range(ROUNDS):
                    excess = await self._excess()
                    if excess <= 0 or not await self._remove_some(excess):
                        return
            finally:
                await self._link.script(scripts.RELEASE, turn, [self._me])

    async def _excess(self) -> int:
        """Bytes too much."""
        sizes = await self._of_each(lambda pipeline, tenant: pipeline.get(self._keys.index("answer", tenant, "bytes")))
        return sum(int(size or 0) for _, size in sizes) - self._max_bytes

    async def _remove_some(self, excess: int) -> bool:
        """Remove some of the least recently used; whether there were any."""
        heads = await self._of_each(
            lambda pipeline, tenant: pipeline.zrange(
                self._keys.index("answer", tenant, "by_use"), 0, ROWS_LOOKED_AT - 1, withscores=True
            )
        )
        oldest = sorted((float(score), tenant, key) for tenant, head in heads for key, score in head)
        for _, tenant, key in oldest[:ROWS_LOOKED_AT]:  # beyond those, a tenant may have others in between
            if excess <= 0:
                break
            excess -= await self._link.script(scripts.EVICT, self._keys.base(tenant), ["answer", key])
        return bool(oldest)

    async def _of_each(self, ask: Callable[[Any, str], object]) -> list[tuple[str, Any]]:
        """Each tenant with the answer to one question, all asked at once."""
        tenants = sorted(map(to_text, await self._link.run(lambda client: client.smembers(self._keys.tenants))))
        if not tenants:
            return []
        return list(zip(tenants, await self._link.run(partial(_ask_each, tenants, ask)), strict=True))


async def _ask_each(tenants: list[str], ask: Callable[[Any, str], object], client: Any) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for tenant in tenants:
        ask(pipeline, tenant)
    return await pipeline.execute()  # type: ignore[no-any-return]
