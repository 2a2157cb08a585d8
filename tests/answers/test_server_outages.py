"""A server that is killed, hangs, may not write or is full: said in a bounded time; once it is back, all goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from answers.conftest import OpenStore
from answers.rows import NOW_S, name, row
from answers.servers import Postgres, RedisServer, Server
from miaotui.answers.store import Filter
from miaotui.answers.stores.outage import Outage
from miaotui.errors import StoreError

pytestmark = pytest.mark.anyio

LIMIT_S = 1.0
PATIENCE_S = 20 * LIMIT_S
"""Far beyond the limit, for the sake of slow machines; what waits for ever takes longer still."""


@pytest.fixture(params=[Postgres, RedisServer], ids=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of this test's own."""
    with contextlib.ExitStack() as stack:
        server = request.param()
        stack.callback(server.remove)
        server.start()
        yield server


async def within(work: Awaitable[Any]) -> Any:
    """Its result, which must come in a bounded time."""
    async with asyncio.timeout(PATIENCE_S):
        return await work


def everything(store: Any) -> list[Callable[[], Awaitable[Any]]]:
    return [
        lambda: store.get(name(row()), NOW_S),
        lambda: store.put([row("new")]),
        lambda: store.rows(Filter("answer"), now_s=NOW_S),
        lambda: store.rows(Filter("answer", "somebody", tag="t", text="x"), now_s=NOW_S),
        lambda: store.delete(Filter("answer", tag="t")),
        lambda: store.touch({name(row()): NOW_S}),
        lambda: store.count(Filter("answer")),
        lambda: store.claim(b"k", "me", 1.0),
        lambda: store.release(b"k", "me"),
    ]


async def test_a_killed_server_is_missed_only_while_it_is_away(server: Server, opening: OpenStore) -> None:
    store = await opening(server.url, timeout_s=LIMIT_S, outage=Outage(retry_s=0))
    acknowledged, failures, is_over = [], 0, asyncio.Event()

    async def work(task: int) -> None:
        nonlocal failures
        number = 0
        while not is_over.is_set():
            number += 1
            mine = row(f"{task} {number}")
            try:
                await within(store.put([mine]))
                acknowledged.append(mine)
                assert await within(store.get(name(mine), NOW_S)) == mine
            except StoreError:
                failures += 1
                await asyncio.sleep(0.01)

    async def until(is_so: Callable[[], bool]) -> None:
        while not is_so():
            for task in tasks:
                assert not task.done(), task.exception()
            await asyncio.sleep(0.01)

    async def acknowledge(more: int) -> None:
        wanted = len(acknowledged) + more
        await until(lambda: len(acknowledged) >= wanted)

    tasks = [asyncio.create_task(work(task)) for task in range(6)]
    for _ in range(3):
        await within(acknowledge(50))
        server.kill()
        before = failures
        await within(until(lambda before=before: failures >= before + 6))
        await asyncio.to_thread(server.start)
        await within(acknowledge(50))
    is_over.set()
    await within(asyncio.gather(*tasks))
    for each in acknowledged:
        assert await store.get(name(each), NOW_S) == each


async def test_a_restart_between_two_questions_is_not_noticed(server: Server, opening: OpenStore) -> None:
    store = await opening(server.url, timeout_s=LIMIT_S)
    await asyncio.gather(*(store.put([row(str(number))]) for number in range(20)))
    server.kill()
    await asyncio.to_thread(server.start)
    found = await asyncio.gather(*(within(store.get(name(row(str(number))), NOW_S)) for number in range(20)))
    assert found == [row(str(number)) for number in range(20)]


async def test_a_server_that_comes_up_later_is_used_from_then_on(server: Server, opening: OpenStore) -> None:
    server.kill()
    with pytest.raises(StoreError, match="cannot be reached"):
        await within(opening(server.url, timeout_s=LIMIT_S, outage=Outage(retry_s=0)))
    await asyncio.to_thread(server.start)
    store = await opening(server.url, timeout_s=LIMIT_S, outage=Outage(retry_s=0))
    server.kill()
    for work in everything(store):
        with pytest.raises(StoreError):
            await within(work())
    await asyncio.to_thread(server.start)
    for work in everything(store):
        await within(work())


async def test_a_server_that_hangs_is_given_up_in_time(server: Server, opening: OpenStore) -> None:
    store = await opening(server.url, timeout_s=LIMIT_S, outage=Outage(retry_s=0))
    await store.put([row()])
    server.freeze()
    outcomes = await within(asyncio.gather(*(work() for work in everything(store)), return_exceptions=True))
    assert [type(outcome) for outcome in outcomes] == [StoreError] * len(outcomes)
    server.thaw()
    assert await within(store.get(name(row()), NOW_S)) == row()
    for work in everything(store):
        await within(work())


async def test_while_a_server_is_away_nobody_waits_for_it(server: Server, opening: OpenStore) -> None:
    now_s = 0.0
    store = await opening(server.url, timeout_s=LIMIT_S, outage=Outage(retry_s=5, clock=lambda: now_s))
    server.freeze()
    with pytest.raises(StoreError):
        await within(store.get(name(row()), NOW_S))
    start_s = asyncio.get_running_loop().time()
    for _ in range(200):
        with pytest.raises(StoreError, match="tried again every 5 s"):
            await store.get(name(row()), NOW_S)
    assert asyncio.get_running_loop().time() - start_s < 100 * LIMIT_S  # not 200 waits
    server.thaw()
    now_s = 6.0
    assert await within(store.get(name(row()), NOW_S)) is None
    assert await within(store.get(name(row()), NOW_S)) is None


async def test_a_cancelled_question_leaves_a_usable_connection(server: Server, opening: OpenStore) -> None:
    store = await opening(server.url, timeout_s=5 * LIMIT_S)
    for number in range(200):
        task = asyncio.create_task(store.put([row(str(number % 7), text="x " * number)]))
        for _ in range(number % 9):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await within(store.put([row("after")]))
    assert await within(store.get(name(row("after")), NOW_S)) == row("after")


async def test_a_connection_that_postgres_ends_costs_no_answer(opening: OpenStore, postgres: Postgres) -> None:
    store = await opening(postgres.url)
    administrator = await asyncpg.connect(postgres.url)
    end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'miaotui'"
    num_ended = 0
    for attempt in range(30):
        work = [asyncio.create_task(store.put([row(f"{attempt} {number}")])) for number in range(20)]
        num_ended += await administrator.fetchval(end_all)
        await within(asyncio.gather(*work))
    await administrator.close()
    assert num_ended > 30
    assert (await store.count(Filter("answer", text="29"))).num_rows >= 20


async def test_a_postgres_that_may_not_write_says_so(opening: OpenStore, postgres: Postgres) -> None:
    store = await opening(postgres.url)
    await store.put([row("old")])
    read_only = await opening(postgres.url + "&default_transaction_read_only=on")
    with pytest.raises(StoreError, match="read-only"):
        await within(read_only.put([row("new")]))
    assert await within(read_only.get(name(row("old")), NOW_S)) == row("old")


async def test_a_lock_in_postgres_is_given_up_in_time(opening: OpenStore, postgres: Postgres) -> None:
    store = await opening(postgres.url, timeout_s=LIMIT_S, outage=Outage(retry_s=0))
    await store.put([row("old")])
    other = await asyncpg.connect(postgres.url)
    async with other.transaction():
        await other.execute("LOCK TABLE miaotui_row IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="did not answer"):
            await within(store.put([row("new")]))
    await other.close()
    await within(store.put([row("new")]))


async def test_a_full_redis_says_so_and_can_be_emptied(opening: OpenStore) -> None:
    with contextlib.ExitStack() as stack:
        server = RedisServer("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
        stack.callback(server.remove)
        server.start()
        store = await opening(server.url)
        kept = []
        with pytest.raises(StoreError, match="maxmemory"):  # noqa: PT012
            for number in range(1000):
                await within(store.put([row(str(number), payload=b'{"a":"' + b"x" * 20_000 + b'"}')]))
                kept.append(number)
        assert kept
        for number in kept:
            assert await within(store.get(name(row(str(number))), NOW_S)) is not None
        assert await within(store.delete(Filter("answer"))) == len(kept)
        await within(store.put([row("room again")]))


async def test_rows_that_redis_has_evicted_leave_the_indexes(opening: OpenStore) -> None:
    with contextlib.ExitStack() as stack:
        server = RedisServer()
        stack.callback(server.remove)
        server.start()
        store = await opening(server.url)
        rows = [row(str(number), tags=("t",)) for number in range(20)]
        await store.put(rows)
        for gone in rows[:5]:
            await store._link.run(
                lambda client, gone=gone: client.delete(store._keys.row("answer", gone.tenant, gone.key))
            )
        assert len(await store.rows(Filter("answer", tag="t"), now_s=NOW_S)) == 15
        assert (await store.count(Filter("answer"))).num_rows == 15


async def test_rows_that_expire_leave_redis_by_themselves(opening: OpenStore, redis_server: RedisServer) -> None:
    store = await opening(redis_server.url, prefix="expiring")
    await store.put([row(str(number), expires_s=NOW_S + 10_000) for number in range(5)])
    key = store._keys.row("answer", "somebody", row("0").key)
    left_ms = await store._link.run(lambda client: client.pttl(key))
    assert 0 < left_ms <= 10_000_000
    for number in range(3):
        key = store._keys.row("answer", "somebody", row(str(number)).key)
        await store._link.run(lambda client, key=key: client.delete(key))
    assert len(await store.rows(Filter("answer"), now_s=NOW_S)) == 2
    assert (await store.count(Filter("answer"))).num_rows == 2
