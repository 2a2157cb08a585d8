"""Stores for the tests: of each kind, empty, connected in the test's own event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from answers.servers import Postgres, RedisCluster, RedisServer
from miaotui.answers.store import Store
from miaotui.answers.stores import open_store
from miaotui.answers.stores.postgres import PostgresStore
from miaotui.answers.stores.redis import RedisStore

OpenStore = Callable[..., Awaitable[Any]]


S = TypeVar("S", Postgres, RedisServer, RedisCluster)


@contextlib.contextmanager
def started(server: S) -> Iterator[S]:
    """The server, running; removed at the end, or where it does not start."""
    with contextlib.ExitStack() as stack:
        stack.callback(server.remove)
        server.start()
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that all tests share."""
    with started(Postgres()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis server that all tests share."""
    with started(RedisServer()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A Redis cluster that all tests share."""
    with started(RedisCluster()) as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    """What runs `async` tests."""
    return "asyncio"


async def empty(store: Any) -> None:
    """Remove all that a test before has left on a shared server."""
    if store.name.startswith("postgresql"):

        async def clear(connection: Any) -> None:
            await connection.execute("DELETE FROM miaotui_row; TRUNCATE miaotui_size, miaotui_claim")

        await store._link.run(clear)
    elif store.name.startswith("redis"):
        await store._link.run(lambda client: client.flushall())


def built(url: str, **options: Any) -> Any:
    """A store; as the classes build it where they know an option that is not for users."""
    if options.keys() <= {"max_bytes", "timeout_s"}:
        return open_store(url, **options)
    return (PostgresStore if url.startswith("postgres") else RedisStore)(url, **options)


@pytest.fixture
async def opening() -> AsyncIterator[OpenStore]:
    """Call it with a URL and options for a store that is open, and closed after the test."""
    opened: list[Store] = []

    async def open_one(url: str, **options: Any) -> Store:
        store = built(url, **options)
        opened.append(store)
        await store.open()
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Where a kind of store is; starts what it needs."""
    servers = {"postgres": "postgres", "redis": "redis_server", "redis-cluster": "redis_cluster"}

    def find(kind: str) -> str:
        if kind == "memory":
            return "memory:"
        if kind == "sqlite":
            return f"sqlite:{tmp_path / 'answers.db'}"
        return str(request.getfixturevalue(servers[kind]).url)

    return find
