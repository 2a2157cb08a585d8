"""Of several processes that are asked the same one computes; the others wait for its answer, but not for ever."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from answers.claiming_store import ClaimingStore
from answers.dict_store import DictStore
from answers.test_cache import PLAIN, SECRET, Clock, entry, question
from miaotui.answers import cache as cache_module
from miaotui.answers.cache import AnswerCache, Found
from miaotui.answers.control import CacheControl
from miaotui.answers.question import Question

pytestmark = pytest.mark.anyio
REFRESH = CacheControl("refresh")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "POLL_S", 0.0)


class Two:
    """Two caches in front of one store."""

    def __init__(self) -> None:
        self.store, self.clock = ClaimingStore(), Clock()
        self.here, self.there = (AnswerCache([DictStore("own"), self.store], SECRET, now=self.clock) for _ in range(2))

    async def __aenter__(self) -> Two:
        await self.here.open()
        await self.there.open()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.here.close()
        await self.there.close()

    async def keep(self, cache: AnswerCache, asked: Question, answer: str) -> None:
        await cache.keep(replace(entry(asked, answer), created_s=self.clock.now_s))
        await cache.flush()


async def a_while() -> None:
    """Let whoever waits look several times."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_whoever_waits_has_the_answer_that_the_other_one_kept() -> None:
    async with Two() as two:
        assert await two.here.lead(question(), PLAIN) is None
        waiting = asyncio.create_task(two.there.lead(question(), PLAIN))
        await a_while()
        assert not waiting.done()
        await two.keep(two.here, question(), "Yes.")
        found = await waiting
        assert isinstance(found, Found)
        assert (found.path, found.entry.answer) == ("store", "Yes.")
        two.here.led(question())


async def test_an_answer_kept_just_before_the_lease_was_had_is_not_computed_again() -> None:
    async with Two() as two:
        await two.keep(two.here, question(), "Yes.")
        found = await two.there.lead(question(), PLAIN)
        assert found is not None


async def test_a_new_answer_is_not_one_that_was_there_before() -> None:
    async with Two() as two:
        await two.keep(two.here, question(), "Old.")
        await two.there.look_up(question(), PLAIN)  # which is in the other's memory, too, then
        two.clock.now_s += 10
        assert await two.here.lead(question(), REFRESH) is None
        waiting = asyncio.create_task(two.there.lead(question(), REFRESH))
        await a_while()
        assert not waiting.done()
        two.clock.now_s += 10
        await two.keep(two.here, question(), "New.")
        found = await waiting
        assert found is not None
        assert found.entry.answer == "New."
        two.here.led(question())


async def test_other_limits_are_other_work() -> None:
    async with Two() as two:
        assert await two.here.lead(question(max_tokens=5), PLAIN) is None
        async with asyncio.timeout(60):  # it does not wait for what it has no use for
            assert await two.there.lead(question(max_tokens=50), PLAIN) is None
        assert len(two.store.claims) == 2
        assert question(max_tokens=5).key == question(max_tokens=50).key


async def test_a_holder_that_goes_on_and_on_is_waited_for_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Two() as two:
        assert await two.here.lead(question(), PLAIN) is None
        waiting = asyncio.create_task(two.there.lead(question(), PLAIN))
        await a_while()
        assert not waiting.done()
        waiting.cancel()
        monkeypatch.setattr(cache_module, "WAIT_S", 0.0)
        async with asyncio.timeout(60):
            assert await two.there.lead(question(), PLAIN) is None
        two.there.led(question())
        assert len(two.store.claims) == 1  # the holder's still


async def test_when_nothing_was_kept_all_who_waited_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "WAIT_S", 1e6)
    third = AnswerCache([DictStore("own"), ClaimingStore()], SECRET)
    async with Two() as two:
        third.levels[1].store = two.store
        await third.open()
        assert await two.here.lead(question(), PLAIN) is None
        waiting = [asyncio.create_task(cache.lead(question(), PLAIN)) for cache in (two.there, third)]
        await a_while()
        two.here.led(question())
        async with asyncio.timeout(60):
            assert await asyncio.gather(*waiting) == [None, None]
        await third.close()
