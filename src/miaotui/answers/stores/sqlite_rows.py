"""What is done to rows with a connection to SQLite, within a transaction that others begin and end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import Name, is_too_large, limits_of
from miaotui.answers.stores import sqlite_sql as sql
from miaotui.answers.stores.migrations import pending
from miaotui.answers.stores.migrations.sqlite import MIGRATIONS
from miaotui.answers.stores.texts import to_bytes
from miaotui.answers.stores.words import terms_of

ROWS_EVICTED_AT_ONCE = 4096
PAGES_RETURNED_AT_ONCE = 1024

_APPLIED = "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_s REAL NOT NULL) WITHOUT ROWID"


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the schema up to date, a transaction per step. Raises StoreError for one that is newer."""
    while True:
        connection.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
        connection.execute(_APPLIED)
        applied = [step for (step,) in connection.execute("SELECT name FROM migration")]
        steps = pending(MIGRATIONS, applied, name)
        if steps:
            for statement in steps[0].statements:
                connection.execute(statement)
            if steps[0].then is not None:
                steps[0].then(connection)
            connection.execute("INSERT INTO migration VALUES (?, ?)", (steps[0].name, time.time()))
        connection.execute("COMMIT")
        if len(steps) <= 1:
            return


def put(connection: sqlite3.Connection, rows: Iterable[Row], max_bytes: int | None) -> None:
    """Keep rows in place of those of the same name, but for those that are larger than their limit by themselves."""
    for row in rows:
        connection.execute(sql.REMOVE, (row.key, row.kind, to_bytes(row.tenant)))
        if is_too_large(row, max_bytes):
            continue
        row_id = connection.execute(sql.INSERT, sql.values_of(row)).lastrowid
        if row.tags:
            connection.executemany(sql.INSERT_TAG, [(to_bytes(tag), row_id) for tag in row.tags])
        if terms := terms_of(row.text):
            connection.execute(sql.INSERT_WORDS, (row_id, " ".join(terms)))


def touch(connection: sqlite3.Connection, uses: Mapping[Name, float]) -> None:
    """Note when rows were last used."""
    values = [(used_s, key, kind, to_bytes(tenant)) for (kind, tenant, key), used_s in uses.items()]
    connection.executemany(sql.TOUCH, values)


def evict(connection: sqlite3.Connection, max_bytes: int | None) -> None:
    """Remove the least recently used rows of each kind until the others are within its limit."""
    for kind, limit in limits_of(max_bytes).items():
        _evict(connection, kind, limit)


def _evict(connection: sqlite3.Connection, kind: Kind, limit: int) -> None:
    (num_bytes,) = connection.execute(sql.SIZE, (kind,)).fetchone()
    excess, num_evicted = num_bytes - limit, 0
    while excess > 0 and num_evicted < ROWS_EVICTED_AT_ONCE:  # a limit that was lowered is reached over several puts
        oldest = connection.execute(sql.LEAST_USED, (kind,)).fetchall()
        if not oldest:
            return
        for row_id, num_bytes in oldest:
            if excess <= 0:
                return
            connection.execute(sql.REMOVE_ID, (row_id,))
            excess -= num_bytes
            num_evicted += 1


def return_pages(connection: sqlite3.Connection) -> bool:
    """Give pages back to the file system where most of the file is free; whether there may be more of them."""
    (num_free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (num_pages,) = connection.execute("PRAGMA page_count").fetchone()
    if 2 * num_free <= num_pages:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({PAGES_RETURNED_AT_ONCE})").fetchall()
    (num_left,) = connection.execute("PRAGMA freelist_count").fetchone()
    return bool(num_left < num_free)


def claim(connection: sqlite3.Connection, key: bytes, owner: str, seconds: float) -> bool:
    """Whether `owner` may do it, by the clock of this machine."""
    now_s = time.time()
    connection.execute(sql.DROP_ENDED_CLAIMS, (now_s,))
    taken = connection.execute(sql.CLAIM, (key, to_bytes(owner), now_s + seconds)).fetchall()
    return bool(taken)


def release(connection: sqlite3.Connection, key: bytes, owner: str) -> None:
    """Give a claim back."""
    connection.execute(sql.RELEASE, (key, to_bytes(owner)))
