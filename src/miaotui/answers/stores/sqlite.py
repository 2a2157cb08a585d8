"""Rows in a file on this machine: the store that needs no server. Several processes may share one file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter, Name, Order
from miaotui.answers.stores import sqlite_rows
from miaotui.answers.stores import sqlite_sql as sql
from miaotui.answers.stores.matching import check_page
from miaotui.answers.stores.sqlite_file import SqliteFile
from miaotui.answers.stores.sqlite_worker import JOBS_PER_COMMIT, Workers, read, write
from miaotui.answers.stores.texts import to_bytes
from miaotui.errors import StoreError

NUM_READERS = 2
MIGRATION_S = 600.0
ROWS_DELETED_AT_ONCE = 500

Result = TypeVar("Result")


class SqliteStore:
    """A `Store` and `Claims` over SQLite, in threads of its own.

    A put has been synced to the disk when it returns. Of a file that is damaged, locked or read-only, or on a full
    disk, every method says so within `timeout_s`, and works again when the cause is gone.
    max_bytes: of answers, and of other rows what `limits_of` says; what is free in the file is used again.
    """

    def __init__(self, path: Path, *, max_bytes: int | None = None, timeout_s: float = 5.0) -> None:
        self.name = f"sqlite:{path}"
        self._path = path
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._writer: Workers | None = None
        self._readers: Workers | None = None

    async def open(self) -> None:
        """Open or create the file."""
        if self._writer is None or self._readers is None:
            busy_s = self._timeout_s / 2
            file = SqliteFile(self._path, busy_s, lambda connection: sqlite_rows.migrate(connection, self.name))
            evict = partial(sqlite_rows.evict, max_bytes=self._max_bytes)
            self._writer = Workers(self.name, [file], partial(write, self.name, last=evict), JOBS_PER_COMMIT)
            readers = [SqliteFile(self._path, busy_s) for _ in range(NUM_READERS)]
            self._readers = Workers(self.name, readers, partial(read, self.name), 1)
        await self._writer.do(lambda connection: None, MIGRATION_S)

    async def close(self) -> None:
        """Close the file; what was asked for before is still done."""
        writer, readers, self._writer, self._readers = self._writer, self._readers, None, None
        for workers in (writer, readers):
            if workers is not None:
                await workers.close(self._timeout_s)

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""
        kind, tenant, key = name
        values = (key, kind, to_bytes(tenant), now_s)
        found = await self._read(lambda connection: connection.execute(sql.GET, values).fetchone())
        return None if found is None else sql.row_of(found)

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        wanted = list({(row.kind, row.tenant, row.key): row for row in rows}.values())
        if wanted:
            await self._write(lambda connection: sqlite_rows.put(connection, wanted, self._max_bytes))

    async def delete(self, which: Filter) -> int:
        """Remove rows, some hundreds at a time, so that others are not kept waiting."""
        statement = sql.delete_some(which, ROWS_DELETED_AT_ONCE)
        num_deleted = 0
        while True:
            num = await self._write(lambda connection: connection.execute(*statement).rowcount)
            num_deleted += num
            if num < ROWS_DELETED_AT_ONCE:
                break
        while num_deleted and await self._write(sqlite_rows.return_pages):
            await asyncio.sleep(0)
        return num_deleted

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """Rows in order."""
        check_page(order, limit, behind)
        statement = sql.select_page(which, now_s, order, limit, behind)
        found = await self._read(lambda connection: connection.execute(*statement).fetchall())
        return [row for row in map(sql.row_of, found) if row is not None]

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """Note when rows were last used."""
        if uses:
            await self._write(lambda connection: sqlite_rows.touch(connection, uses))

    async def count(self, which: Filter) -> Count:
        """How many rows there are."""
        statement = sql.count(which)
        return Count(*await self._read(lambda connection: connection.execute(*statement).fetchone()))

    async def claim(self, key: bytes, owner: str, seconds: float) -> bool:
        """Whether `owner` may do it."""
        return await self._write(lambda connection: sqlite_rows.claim(connection, key, owner, seconds))

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claim back."""
        await self._write(lambda connection: sqlite_rows.release(connection, key, owner))

    async def _read(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._opened(self._readers).do(action, self._timeout_s)

    async def _write(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._opened(self._writer).do(action, self._timeout_s)

    def _opened(self, workers: Workers | None) -> Workers:
        if workers is None:
            raise StoreError(f"the answer store {self.name} is not open; await its open() first")
        return workers
