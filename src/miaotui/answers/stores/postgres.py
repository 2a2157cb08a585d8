"""Rows in PostgreSQL: one store for many servers. Split over partitions by tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter, Name, Order
from miaotui.answers.stores import postgres_rows, without_password
from miaotui.answers.stores import postgres_sql as sql
from miaotui.answers.stores.matching import check_page
from miaotui.answers.stores.outage import Outage
from miaotui.answers.stores.postgres_link import Action, PostgresLink, Result
from miaotui.answers.stores.texts import to_bytes

MIGRATION_S = 600.0
ROWS_DELETED_AT_ONCE = 1000
PUTS_BETWEEN_FOLDS = 64
CLAIMS_BETWEEN_SWEEPS = 256
LONG_TEXT_CHARACTERS = 1 << 14
"""Of more text than this, words are found in a thread, so that the event loop goes on."""


class PostgresStore:
    """A `Store` and `Claims` over PostgreSQL 12 or newer.

    Of a server that is away, read-only or full, every method says so within `timeout_s`; while it cannot be reached,
    most say so at once. Connections are made anew by themselves.
    max_bytes: of answers, and of other rows what `limits_of` says; several processes with one server should give the
    same.
    A tenant's name may have about 2 kB, what an index of PostgreSQL takes.
    """

    def __init__(
        self, url: str, *, max_bytes: int | None = None, timeout_s: float = 5.0, outage: Outage | None = None
    ) -> None:
        self.name = without_password(url)
        self._max_bytes = max_bytes
        self._link = PostgresLink(url, self.name, timeout_s, outage or Outage())
        self._is_ready = False
        self._getting_ready = asyncio.Lock()
        self._num_puts = 0
        self._num_claims = 0

    @property
    def num_collisions(self) -> int:
        """How often a transaction had to be repeated because of another one."""
        return self._link.num_collisions

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""
        await self._link.open()
        await self._get_ready()

    async def close(self) -> None:
        """Let go of the connections."""
        self._is_ready = False
        await self._link.close()

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""
        kind, tenant, key = name
        found = await self._run(lambda connection: connection.fetchrow(sql.GET, to_bytes(tenant), kind, key, now_s))
        return None if found is None else sql.row_of(found)

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        wanted = {(row.kind, row.tenant, row.key): row for row in rows}
        if not wanted:
            return
        if sum(len(row.text) for row in wanted.values()) > LONG_TEXT_CHARACTERS:
            prepared = await asyncio.to_thread(postgres_rows.prepare, wanted.values(), self._max_bytes)
        else:
            prepared = postgres_rows.prepare(wanted.values(), self._max_bytes)
        await self._run(lambda connection: postgres_rows.put(connection, prepared))
        self._num_puts += 1
        if self._max_bytes is not None:
            limit = self._max_bytes
            await self._run(lambda connection: postgres_rows.evict(connection, limit))
        if self._num_puts % PUTS_BETWEEN_FOLDS == 0:
            await self._run(postgres_rows.fold_sizes)

    async def delete(self, which: Filter) -> int:
        """Remove rows, many at a time, so that others are not kept waiting."""
        statement, values = sql.delete_some(which, ROWS_DELETED_AT_ONCE)
        num_deleted = 0
        while True:
            num = postgres_rows.num_changed(await self._run(lambda connection: connection.execute(statement, *values)))
            num_deleted += num
            if num < ROWS_DELETED_AT_ONCE:
                return num_deleted

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """Rows in order."""
        check_page(order, limit, behind)
        statement, values = sql.select_page(which, now_s, order, limit, behind)
        found = await self._run(lambda connection: connection.fetch(statement, *values))
        return [row for row in map(sql.row_of, found) if row is not None]

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """Note when rows were last used."""
        names = [(to_bytes(tenant), kind, key, used_s) for (kind, tenant, key), used_s in uses.items()]
        if names:
            await self._run(lambda connection: connection.executemany(sql.TOUCH, sorted(names)))

    async def count(self, which: Filter) -> Count:
        """How many rows there are."""
        statement, values = sql.count(which)
        return Count(*await self._run(lambda connection: connection.fetchrow(statement, *values)))

    async def claim(self, key: bytes, owner: str, seconds: float) -> bool:
        """Whether `owner` may do it, by the clock of the server."""
        self._num_claims += 1
        if self._num_claims % CLAIMS_BETWEEN_SWEEPS == 0:
            await self._run(lambda connection: connection.execute(sql.DROP_ENDED_CLAIMS))
        taken = await self._run(lambda connection: connection.fetchval(sql.CLAIM, key, to_bytes(owner), seconds))
        return taken is True

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claim back."""
        await self._run(lambda connection: connection.execute(sql.RELEASE, key, to_bytes(owner)))

    async def _run(self, action: Action[Result]) -> Result:
        if not self._is_ready and self._link.is_open:
            await self._get_ready()
        return await self._link.run(action)

    async def _get_ready(self) -> None:
        async with self._getting_ready:
            if not self._is_ready:
                migrate: Action[Any] = lambda connection: postgres_rows.migrate(connection, self.name)  # noqa: E731
                await self._link.run(migrate, MIGRATION_S)
                self._is_ready = True
