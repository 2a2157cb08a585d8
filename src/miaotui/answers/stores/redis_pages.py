"""Walks through an index of rows in Redis, in order, some at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import Order
from miaotui.answers.stores import redis_scripts as scripts
from miaotui.answers.stores.redis_link import RedisLink
from miaotui.answers.stores.redis_rows import Keys, row_of

ROWS_AT_ONCE = 200


class Walker:
    """Reads one tenant's rows of one kind."""

    def __init__(self, link: RedisLink, keys: Keys, kind: Kind, tenant: str) -> None:
        self._link = link
        self._keys = keys
        self._kind: Kind = kind
        self._tenant = tenant

    async def walk(
        self,
        index: str,
        order: Order,
        start_s: float | None = None,
        end_s: float | None = None,
        at_once: int = ROWS_AT_ONCE,
    ) -> AsyncIterator[tuple[float, Row]]:
        """Rows with their scores in an index, from one score to another. Rows that come meanwhile may be left out.

        at_once: so many are fetched together.
        """
        name = self._keys.index(self._kind, self._tenant, index)
        newest = order == "newest"
        first, last = ("+inf", "-inf") if newest else ("-inf", "+inf")
        start, num_seen_at_start = first if start_s is None else repr(start_s), 0
        end = last if end_s is None else repr(end_s)
        while True:
            found = await self._link.run(partial(_members, name, start, end, newest, num_seen_at_start, at_once))
            rows = await self.read([key for key, _ in found])
            for (_, score), row in zip(found, rows, strict=True):
                if row is not None:
                    yield float(score), row
            if len(found) < at_once:
                return
            reached = repr(float(found[-1][1]))
            num_there = sum(repr(float(score)) == reached for _, score in found)
            num_seen_at_start = num_there + (num_seen_at_start if reached == start else 0)
            start = reached

    async def read(self, keys: Sequence[bytes]) -> list[Row | None]:
        """Rows by their keys; those that Redis has removed leave the indexes."""
        if not keys:
            return []
        names = [self._keys.row(self._kind, self._tenant, key) for key in keys]

        async def fetch(client: Any) -> list[dict[bytes, bytes]]:
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(name)
            return await pipeline.execute()  # type: ignore[no-any-return]

        fields = await self._link.run(fetch)
        gone = [key for key, found in zip(keys, fields, strict=True) if not found]
        if gone:
            await self._link.script(scripts.TIDY, self._keys.base(self._tenant), [self._kind, *gone])
        return [row_of(self._kind, self._tenant, key, found) for key, found in zip(keys, fields, strict=True)]


async def _members(
    name: bytes, start: str, end: str, newest: bool, skipped: int, num: int, client: Any
) -> list[tuple[bytes, float]]:
    """The next keys in an index, with their scores."""
    return await client.zrange(  # type: ignore[no-any-return]
        name, start, end, desc=newest, byscore=True, withscores=True, offset=skipped, num=num
    )
