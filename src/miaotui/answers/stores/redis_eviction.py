"""Keeps the rows in Redis within a number of bytes: those go that were not used for longest, of whatever tenant."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from miaotui.answers.row import Kind
from miaotui.answers.store import limits_of
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
        self._limits = limits_of(max_bytes)
        self._turn = asyncio.Lock()
        self._me = secrets.token_bytes(8)

    async def run(self) -> None:
        """Remove the least recently used rows of each kind until the others are within its limit, unless another
        process does."""
        async with self._turn:
            if not await self._excess():
                return
            turn = self._keys.claim(b"eviction")
            if not await self._link.script(scripts.CLAIM, turn, [self._me, TURN_MS]):
                return
            try:
                for _ in range(ROUNDS):
                    excess = await self._excess()
                    removed = [await self._remove_some(kind, num_bytes) for kind, num_bytes in excess.items()]
                    if not any(removed):
                        return
            finally:
                await self._link.script(scripts.RELEASE, turn, [self._me])

    async def _excess(self) -> dict[Kind, int]:
        """Bytes too much, of the kinds that have too many."""
        excess = {kind: -limit for kind, limit in self._limits.items()}
        sizes = await self._of_each(
            tuple(excess), lambda pipeline, kind, tenant: pipeline.get(self._keys.index(kind, tenant, "bytes"))
        )
        for kind, _, size in sizes:
            excess[kind] += int(size or 0)
        return {kind: num_bytes for kind, num_bytes in excess.items() if num_bytes > 0}

    async def _remove_some(self, kind: Kind, excess: int) -> bool:
        """Remove some of the least recently used; whether there were any."""
        heads = await self._of_each(
            (kind,),
            lambda pipeline, kind, tenant: pipeline.zrange(
                self._keys.index(kind, tenant, "by_use"), 0, ROWS_LOOKED_AT - 1, withscores=True
            ),
        )
        oldest = sorted((float(score), tenant, key) for _, tenant, head in heads for key, score in head)
        for _, tenant, key in oldest[:ROWS_LOOKED_AT]:  # beyond those, a tenant may have others in between
            if excess <= 0:
                break
            excess -= await self._link.script(scripts.EVICT, self._keys.base(tenant), [kind, key])
        return bool(oldest)

    async def _of_each(
        self, kinds: Sequence[Kind], ask: Callable[[Any, Kind, str], object]
    ) -> list[tuple[Kind, str, Any]]:
        """Each kind and tenant with the answer to one question, all asked at once."""
        tenants = sorted(map(to_text, await self._link.run(lambda client: client.smembers(self._keys.tenants))))
        names = [(kind, tenant) for kind in kinds for tenant in tenants]
        if not names:
            return []
        answers = await self._link.run(partial(_ask_each, names, ask))
        return [(kind, tenant, answer) for (kind, tenant), answer in zip(names, answers, strict=True)]


async def _ask_each(names: list[tuple[Kind, str]], ask: Callable[[Any, Kind, str], object], client: Any) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for kind, tenant in names:
        ask(pipeline, kind, tenant)
    return await pipeline.execute()  # type: ignore[no-any-return]
