"""What is done to rows with a connection to PostgreSQL."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import is_too_large, limits_of
from miaotui.answers.stores import postgres_sql as sql
from miaotui.answers.stores.migrations import pending
from miaotui.answers.stores.migrations.postgres import MIGRATIONS
from miaotui.answers.stores.texts import to_bytes

MAX_SIZES = 256
"""Entries of `miaotui_size` beyond which they are folded into one per kind and tenant."""
EVICTIONS_AT_ONCE = 64

# Numbers of advisory locks, which a whole database shares: "miaotui" and one more letter, as ASCII.
MIGRATION_LOCK = int.from_bytes(b"miaotuim", "big")
EVICTION_LOCK = int.from_bytes(b"miaotuie", "big")
FOLD_LOCK = int.from_bytes(b"miaotuif", "big")

_EXISTS = "SELECT to_regclass('miaotui_migration') IS NOT NULL"
_CREATE = """CREATE TABLE IF NOT EXISTS miaotui_migration (
    name text PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows ready to be sent, in the order in which all transactions lock them."""

    kept: list[tuple[object, ...]]
    too_large: list[tuple[object, ...]]


async def migrate(connection: Any, name: str) -> None:
    """Bring the schema up to date, all steps or none. Raises StoreError for one that is newer."""
    if await connection.fetchval(_EXISTS) and not pending(MIGRATIONS, await _applied(connection), name):
        return  # nothing is written, so a server that is read-only can be read
    async with connection.transaction():
        await connection.execute(sql.ALONE, MIGRATION_LOCK)
        await connection.execute(_CREATE)
        for step in pending(MIGRATIONS, await _applied(connection), name):
            for statement in step.statements:
                await connection.execute(statement)
            if step.then is not None:
                done = step.then(connection)
                if inspect.isawaitable(done):
                    await done
            await connection.execute("INSERT INTO miaotui_migration (name) VALUES ($1)", step.name)


async def _applied(connection: Any) -> list[str]:
    return [record[0] for record in await connection.fetch("SELECT name FROM miaotui_migration")]


def prepare(rows: Collection[Row], max_bytes: int | None) -> Prepared:
    """What `put` sends; rows that are larger than their limit by themselves are only removed."""
    prepared = Prepared([], [])
    for row in sorted(rows, key=lambda row: (to_bytes(row.tenant), row.kind, row.key)):
        if is_too_large(row, max_bytes):
            prepared.too_large.append((to_bytes(row.tenant), row.kind, row.key))
        else:
            prepared.kept.append(sql.values_of(row))
    return prepared


async def put(connection: Any, prepared: Prepared) -> None:
    """Keep rows in place of those of the same name, all or none."""
    if prepared.too_large:
        await connection.executemany(sql.REMOVE, prepared.too_large)
    if prepared.kept:
        await connection.executemany(sql.PUT, prepared.kept)  # one transaction, one round trip


async def evict(connection: Any, max_bytes: int) -> None:
    """Remove the least recently used rows of each kind until the others are within its limit."""
    sizes = {record[0]: record[1] for record in await connection.fetch(sql.SIZES)}
    for kind, limit in limits_of(max_bytes).items():
        if sizes.get(kind, 0) > limit:
            await _evict(connection, kind, limit)


async def _evict(connection: Any, kind: Kind, limit: int) -> None:
    for _ in range(EVICTIONS_AT_ONCE):  # a limit that was lowered is reached over several puts
        async with connection.transaction():
            await connection.execute(sql.ALONE, EVICTION_LOCK)
            excess = await connection.fetchval(sql.SIZE, kind) - limit
            if excess <= 0 or num_changed(await connection.execute(sql.EVICT, excess, kind)) == 0:
                return


async def fold_sizes(connection: Any) -> None:
    """Make the list of what statements have added and taken away short, if nobody else does."""
    if await connection.fetchval(sql.NUM_SIZES, MAX_SIZES + 1) <= MAX_SIZES:
        return
    async with connection.transaction():
        if await connection.fetchval(sql.IF_ALONE, FOLD_LOCK):
            await connection.execute(sql.FOLD_SIZES)


def num_changed(status: str) -> int:
    """Rows in a command's reply, as in "DELETE 3"."""
    return int(status.rpartition(" ")[2])
