"""Rows in Redis or a Redis cluster: a fast level that several servers share. As durable as the server is set to be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import Count, Filter, Name, Order
from miaotui.answers.stores import redis_scripts as scripts
from miaotui.answers.stores import without_password
from miaotui.answers.stores.matching import Matcher, check_page, is_live, place
from miaotui.answers.stores.outage import Outage
from miaotui.answers.stores.redis_eviction import Eviction
from miaotui.answers.stores.redis_link import RedisLink
from miaotui.answers.stores.redis_pages import ROWS_AT_ONCE, Walker
from miaotui.answers.stores.redis_rows import Keys, index_of, put_arguments, row_of
from miaotui.answers.stores.texts import to_bytes, to_text

ROWS_FORGOTTEN_AT_ONCE = 200


class RedisStore:
    """A `Store` and `Claims` over Redis 6.2 or newer.

    Rows that expire are removed by the server itself. A put is all or none for each tenant: in a cluster, tenants may
    lie on different servers. Searches by text look at every row of the kind.
    max_bytes: of answers, and of other rows what `limits_of` says; several processes with one server should give the
    same. Without it, let the server's `maxmemory` with a policy bound its size. prefix: of all keys.
    """

    def __init__(
        self, url: str, *, max_bytes: int | None = None, timeout_s: float = 5.0, prefix: str = "miaotui",
        outage: Outage | None = None,
    ) -> None:  # fmt: skip
        self.name = without_password(url)
        self._max_bytes = max_bytes
        self._link = RedisLink(url, self.name, timeout_s, outage or Outage())
        self._keys = Keys(prefix)
        self._eviction = None if max_bytes is None else Eviction(self._link, self._keys, max_bytes)

    async def open(self) -> None:
        """Connect."""
        await self._link.open()
        await self._link.run(lambda client: client.ping())

    async def close(self) -> None:
        """Let go of the connections."""
        await self._link.close()

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""
        kind, tenant, key = name
        fields = await self._link.run(lambda client: client.hgetall(self._keys.row(kind, tenant, key)))
        row = row_of(kind, tenant, key, fields)
        return row if row is not None and is_live(row, now_s) else None

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        wanted = list({(row.kind, row.tenant, row.key): row for row in rows}.values())
        for tenant in {row.tenant for row in wanted}:
            await self._link.run(partial(_add_to_set, self._keys.tenants, to_bytes(tenant)))
            arguments = [part for row in wanted if row.tenant == tenant for part in put_arguments(row, self._max_bytes)]
            await self._link.script(scripts.PUT, self._keys.base(tenant), arguments)
        if wanted and self._eviction is not None:
            await self._eviction.run()

    async def delete(self, which: Filter) -> int:
        """Remove rows, many at a time."""
        num_deleted = 0
        for tenant in await self._tenants(which):
            keys = [row.key async for row in self._meant(which, tenant)]
            num_deleted += await self._forget(which.kind, tenant, keys)
        return num_deleted

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """Rows in order."""
        check_page(order, limit, behind)
        found: list[tuple[object, Row]] = []
        for tenant in await self._tenants(which):
            found += await self._page(which, tenant, now_s, order, limit, behind)
        found.sort(key=itemgetter(0), reverse=order == "newest")
        return [row for _, row in found[:limit]]

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """Note when rows were last used."""
        by_index: dict[bytes, dict[bytes, float]] = {}
        for (kind, tenant, key), used_s in uses.items():
            by_index.setdefault(self._keys.index(kind, tenant, "by_use"), {})[key] = used_s
        for index, scores in by_index.items():
            await self._link.run(partial(_raise_scores, index, scores))

    async def count(self, which: Filter) -> Count:
        """How many rows there are, without those that have expired by the server's clock."""
        only_kind = which == Filter(which.kind, which.tenant)
        num_rows = num_bytes = 0
        for tenant in await self._tenants(which):
            if only_kind:
                one = await self._count_all(which.kind, tenant)
                num_rows, num_bytes = num_rows + one.num_rows, num_bytes + one.num_bytes
            else:
                sizes = [row.num_bytes async for row in self._meant(which, tenant)]
                num_rows, num_bytes = num_rows + len(sizes), num_bytes + sum(sizes)
        return Count(num_rows, num_bytes)

    async def claim(self, key: bytes, owner: str, seconds: float) -> bool:
        """Whether `owner` may do it, by the clock of the server."""
        values = [to_bytes(owner), max(int(seconds * 1000), 1)]
        return bool(await self._link.script(scripts.CLAIM, self._keys.claim(key), values))

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claim back."""
        await self._link.script(scripts.RELEASE, self._keys.claim(key), [to_bytes(owner)])

    async def _tenants(self, which: Filter) -> list[str]:
        if which.tenant is not None:
            return [which.tenant]
        names = await self._link.run(lambda client: client.smembers(self._keys.tenants))
        return sorted(map(to_text, names))

    def _walker(self, kind: Kind, tenant: str) -> Walker:
        return Walker(self._link, self._keys, kind, tenant)

    async def _meant(self, which: Filter, tenant: str) -> AsyncIterator[Row]:
        is_meant, walker = Matcher(which), self._walker(which.kind, tenant)
        if which.key is not None:
            for row in await walker.read([which.key]):
                if row is not None and is_meant(row):
                    yield row
            return
        index, end_s = index_of(which), None
        if which.expired_s is not None:
            index, end_s = "by_end", which.expired_s
        async for _, row in walker.walk(index, "oldest", end_s=end_s):
            if is_meant(row):
                yield row

    async def _page(
        self, which: Filter, tenant: str, now_s: float, order: Order, limit: int, behind: Row | None
    ) -> list[tuple[object, Row]]:
        """At most `limit` rows of one tenant, with what they are sorted by."""
        is_meant = Matcher(which)
        index = "by_use" if order == "least used" else index_of(which)
        edge = None if behind is None else place(behind)
        # Where all of the index is meant, bodies that nobody wants are not fetched.
        at_once = (
            min(limit, ROWS_AT_ONCE) if which == Filter(which.kind, which.tenant, group=which.group) else ROWS_AT_ONCE
        )
        found: list[tuple[object, Row]] = []
        if limit:
            walk = self._walker(which.kind, tenant).walk(index, order, edge and edge[0], at_once=at_once)
            async for score, row in walk:
                at = place(row)
                if edge is not None and (at >= edge if order == "newest" else at <= edge):
                    continue
                if is_meant(row) and is_live(row, now_s):
                    found.append(((score, *at) if order == "least used" else at, row))
                    if len(found) == limit:
                        break
        return found

    async def _forget(self, kind: Kind, tenant: str, keys: Sequence[bytes]) -> int:
        num = 0
        for start in range(0, len(keys), ROWS_FORGOTTEN_AT_ONCE):
            some = keys[start : start + ROWS_FORGOTTEN_AT_ONCE]
            num += await self._link.script(scripts.FORGET, self._keys.base(tenant), [kind, *some])
        return num

    async def _count_all(self, kind: Kind, tenant: str) -> Count:
        while True:
            num_rows, num_bytes = await self._link.script(scripts.COUNT, self._keys.base(tenant), [kind])
            if num_rows >= 0:
                return Count(num_rows, num_bytes)


async def _add_to_set(name: bytes, member: bytes, client: Any) -> None:
    await client.sadd(name, member)


async def _raise_scores(name: bytes, scores: Mapping[bytes, float], client: Any) -> None:
    await client.zadd(name, scores, xx=True, gt=True)
