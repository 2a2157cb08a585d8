"""Several caches over one real store: one computation, nothing for other tenants, outages that cost no answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from answers.askers import Model, asked, asker
from answers.conftest import OpenStore, built, empty
from answers.servers import Postgres, RedisServer, Server
from answers.test_cache import PLAIN, SECRET, entry, question
from miaotui.answers.cache import AnswerCache, Found
from miaotui.answers.stores import open_store

pytestmark = pytest.mark.anyio

NUM_PROBES = 2_000
PATIENCE_S = 60.0
"""Far beyond what is waited for; what waits for ever takes longer still."""


@asynccontextmanager
async def caches_over(url: str, number: int, **options: Any) -> AsyncIterator[list[AnswerCache]]:
    """Caches as processes of their own would have them."""
    async with contextlib.AsyncExitStack() as stack:
        caches = [AnswerCache([open_store("memory:"), built(url, **options)], SECRET) for _ in range(number)]
        for cache in caches:
            await cache.open()
            stack.push_async_callback(cache.close)
        yield caches


@pytest.mark.parametrize("kind", ["postgres", "redis", "sqlite"])
async def test_processes_that_are_asked_the_same_compute_it_once(
    kind: str, url_of: Callable[[str], str], opening: OpenStore
) -> None:
    await empty(await opening(url_of(kind)))
    async with caches_over(url_of(kind), 2) as caches:
        models = [Model() for _ in caches]
        askers = [asker(cache, model) for cache, model in zip(caches, models, strict=True)]
        for round_ in range(5):
            said = await asyncio.gather(*(asked(by, f"{round_}?") for by in askers for _ in range(4)))
            assert {one.text for one in said} == {"x" * 30}
            paths = [one.receipt.path for one in said]
            assert paths.count("model") == 1
            assert set(paths) <= {"model", "shared", "store", "memory"}
        assert sum(model.num_computed for model in models) == 5


@pytest.mark.parametrize("kind", ["postgres", "redis", "sqlite"])
async def test_no_tenant_is_given_another_s_answer(kind: str, url_of: Callable[[str], str], opening: OpenStore) -> None:
    """Each probe asks what another tenant has an answer to; its own answers show that there is something to find."""
    await empty(await opening(url_of(kind)))
    async with caches_over(url_of(kind), 2) as (here, there):
        tenants, texts = [f"tenant {number}" for number in range(5)], [f"{number}?" for number in range(40)]
        for tenant in tenants:
            for text in texts:
                if has_own(tenant, text):
                    await here.keep(entry(question(text, tenant), tenant))
        await here.flush()
        hits = num_own = num_found = num_probes = 0
        for tenant in ["", "Tenant 0", "tenant 0 ", *tenants]:
            for text in texts * 8:
                found = await (here if num_probes % 2 else there).look_up(question(text, tenant), PLAIN)
                is_own = tenant in tenants and has_own(tenant, text)
                num_own, num_probes = num_own + is_own, num_probes + (not is_own)
                num_found += is_own and isinstance(found, Found) and found.entry.answer == tenant
                hits += not is_own and isinstance(found, Found)
        print(f"{kind}: {num_probes} probes, {hits} hits, at most {3 / num_probes:.2%} at 95 %")
        assert num_probes >= NUM_PROBES
        assert (hits, num_found) == (0, num_own)


def has_own(tenant: str, text: str) -> bool:
    """Whether a tenant has an answer to that question: of five tenants, one has."""
    return (int(tenant.split()[1]) + int(text[:-1])) % 5 == 0


@pytest.fixture(params=[Postgres, RedisServer], ids=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of this test's own."""
    with contextlib.ExitStack() as stack:
        server = request.param()
        stack.callback(server.remove)
        server.start()
        yield server


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_questions_are_answered_while_the_store_is_away_and_kept_again_when_it_is_back(
    server: Server, fault: str
) -> None:
    away, back = (server.kill, server.start) if fault == "killed" else (server.freeze, server.thaw)
    async with caches_over(server.url, 2, timeout_s=1.0) as caches, asyncio.timeout(4 * PATIENCE_S):
        model = Model()
        here, there = (asker(cache, model) for cache in caches)
        await asked(here, "before")
        await caches[0].flush()
        await asyncio.to_thread(away)
        for number in range(20):
            for by in (here, there):
                async with asyncio.timeout(PATIENCE_S):
                    assert (await asked(by, f"{number}, while it is away")).finish_reason == "stop"
        assert (await asked(here, "before")).receipt.path == "memory"
        for cache in caches:
            state = cache.counters()
            assert state["errors"] > 0
            assert (state["stores"][1]["works"], state["stores"][1]["failures"] > 0) == (False, True)
        await asyncio.to_thread(back)
        number, path = 0, ""
        while path != "store":  # nobody does anything but ask
            number += 1
            await asked(here, f"{number}, when it is back")
            await caches[0].flush()
            path = (await asked(there, f"{number}, when it is back")).receipt.path
            await asyncio.sleep(0.05)
        assert all(cache.counters()["stores"][1]["works"] for cache in caches)
