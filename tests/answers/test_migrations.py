"""A store of any older schema is brought up to date with all its rows; one of a newer schema is left alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from answers.rows import NOW_S, row
from answers.servers import Postgres
from miaotui.answers.store import Count, Filter
from miaotui.answers.stores import migrations, open_store
from miaotui.answers.stores.migrations import postgres as in_postgres
from miaotui.answers.stores.migrations import sqlite as in_sqlite
from miaotui.answers.stores.texts import pack, to_bytes
from miaotui.errors import StoreError

OLD = [row(f"old {number} 旧", tags=("t", str(number)), model="m", group=b"g" * 32) for number in range(30)]
NAMES = ["0001 rows", "0002 search", "0003 sizes", "0004 claims"]
"""Released steps. Never change one; append."""


@pytest.mark.parametrize("room", [in_sqlite, in_postgres])
def test_steps_are_only_appended(room: Any) -> None:
    names = [step.name for step in room.MIGRATIONS]
    assert names[: len(NAMES)] == NAMES
    assert names == sorted(set(names))


async def check(store: Any) -> None:
    """Everything works on old rows as on new ones."""
    assert await store.count(Filter("answer")) == Count(30, sum(each.num_bytes for each in OLD))
    assert await store.get(("answer", OLD[3].tenant, OLD[3].key), NOW_S) == OLD[3]
    assert await store.rows(Filter("answer", text="旧 3"), now_s=NOW_S) == [OLD[3]]
    assert await store.rows(Filter("answer", tag="7", model="m", group=b"g" * 32), now_s=NOW_S) == [OLD[7]]
    await store.put([row("new"), OLD[5]])
    assert await store.delete(Filter("answer", tag="t", text="OLD 4")) == 1
    assert (await store.count(Filter("answer"))).num_rows == 30
    assert await store.claim(b"k", "me", 10)


async def opened(url: str) -> None:
    store = open_store(url)
    try:
        await store.open()
        await check(store)
    finally:
        await store.close()


def old_file(path: Path, length: int) -> None:
    """A file as the first so many steps left it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_s REAL NOT NULL) WITHOUT ROWID")
    for step in in_sqlite.MIGRATIONS[:length]:
        for statement in step.statements:
            connection.execute(statement)
        connection.execute("INSERT INTO migration VALUES (?, 0)", (step.name,))
    columns = (
        "id, kind, tenant, key, created_s, expires_s, used_s, num_bytes, grp, model, tags, mac, vector, text, payload"
    )
    for number, each in enumerate(OLD if length else []):
        values = (
            number, each.kind, to_bytes(each.tenant), each.key, each.created_s, None, each.created_s, each.num_bytes,
            each.group, to_bytes(each.model), pack(each.tags), each.mac, each.vector, to_bytes(each.text), each.payload,
        )  # fmt: skip
        connection.execute(f"INSERT INTO answer_row ({columns}) VALUES ({', '.join('?' * 15)})", values)
        connection.executemany("INSERT INTO row_tag VALUES (?, ?)", [(to_bytes(tag), number) for tag in each.tags])
        if length > 1:
            terms = " ".join(in_sqlite.terms_of(each.text))
            connection.execute("INSERT INTO row_word (rowid, terms) VALUES (?, ?)", (number, terms))
    connection.close()


@pytest.mark.parametrize("length", range(1, len(in_sqlite.MIGRATIONS) + 1))
def test_an_older_file_is_brought_up_to_date(tmp_path: Path, length: int) -> None:
    old_file(tmp_path / "a.db", length)
    asyncio.run(opened(f"sqlite:{tmp_path / 'a.db'}"))


def test_several_processes_may_begin_a_file_at_once(tmp_path: Path) -> None:
    async def begin() -> None:
        stores: list[Any] = [open_store(f"sqlite:{tmp_path / 'a.db'}") for _ in range(6)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.put([row(str(number))]) for number, store in enumerate(stores)))
        assert (await stores[0].count(Filter("answer"))).num_rows == 6
        for store in stores:
            await store.close()

    asyncio.run(begin())


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    old_file(tmp_path / "a.db", 1)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("INSERT INTO migration VALUES ('9999 future', 0)")
    connection.close()
    with pytest.raises(StoreError, match=r"newer miaotui.*9999 future"):
        asyncio.run(opened(f"sqlite:{tmp_path / 'a.db'}"))


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_file(tmp_path / "a.db", 2)
    broken = migrations.Migration("0003 sizes", ("CREATE TABLE half (x)", "no statement"))
    monkeypatch.setattr("miaotui.answers.stores.sqlite_rows.MIGRATIONS", (*in_sqlite.MIGRATIONS[:2], broken))
    with pytest.raises(StoreError, match=r"no statement|syntax"):
        asyncio.run(opened(f"sqlite:{tmp_path / 'a.db'}"))
    monkeypatch.undo()
    asyncio.run(opened(f"sqlite:{tmp_path / 'a.db'}"))


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """An empty database of its own."""

    async def say(*statements: str) -> None:
        connection = await asyncpg.connect(postgres.url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(say("DROP DATABASE IF EXISTS migrated", "CREATE DATABASE migrated"))
    yield postgres.url.replace("/postgres?", "/migrated?")
    asyncio.run(say("DROP DATABASE migrated WITH (FORCE)"))


async def old_database(url: str, length: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE miaotui_migration (name text PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
    )
    for step in in_postgres.MIGRATIONS[:length]:
        for statement in step.statements:
            await connection.execute(statement)
        await connection.execute("INSERT INTO miaotui_migration (name) VALUES ($1)", step.name)
    columns = "kind, tenant, key, created_s, used_s, num_bytes, grp, model, tags, mac, vector, text, payload"
    for each in OLD:
        values = (
            each.kind, to_bytes(each.tenant), each.key, each.created_s, each.created_s, each.num_bytes, each.group,
            to_bytes(each.model), [to_bytes(tag) for tag in each.tags], each.mac, each.vector, to_bytes(each.text),
            each.payload,
        )  # fmt: skip
        marks = "(SELECT array_agg(sha256(tag)) FROM unnest($9::bytea[]) AS tag)"
        numbers = ", ".join(f"${number}" for number in range(1, 14))
        await connection.execute(f"INSERT INTO miaotui_row ({columns}, marks) VALUES ({numbers}, {marks})", *values)
        if length > 1:
            terms = sorted(in_postgres.terms_of(each.text))
            await connection.execute("UPDATE miaotui_row SET terms = $1 WHERE key = $2", terms, each.key)
    await connection.close()


@pytest.mark.parametrize("length", range(1, len(in_postgres.MIGRATIONS) + 1))
def test_an_older_database_is_brought_up_to_date(database: str, length: int) -> None:
    asyncio.run(old_database(database, length))
    asyncio.run(opened(database))


def test_several_processes_may_begin_a_database_at_once(database: str) -> None:
    async def begin() -> None:
        stores: list[Any] = [open_store(database) for _ in range(5)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.put([row(str(number))]) for number, store in enumerate(stores)))
        assert (await stores[0].count(Filter("answer"))).num_rows == 5
        for store in stores:
            await store.close()

    asyncio.run(begin())


def test_a_newer_database_is_left_alone(database: str) -> None:
    async def make_newer() -> None:
        await old_database(database, 1)
        connection = await asyncpg.connect(database)
        await connection.execute("INSERT INTO miaotui_migration (name) VALUES ('9999 future')")
        await connection.close()

    asyncio.run(make_newer())
    with pytest.raises(StoreError, match=r"newer miaotui.*9999 future"):
        asyncio.run(opened(database))
