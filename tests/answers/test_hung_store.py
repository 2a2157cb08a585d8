"""A store that takes questions and never answers costs one question a short wait, and others nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from answers.dict_store import DictStore
from answers.test_cache import PLAIN, SECRET, entry, question
from miaotui.answers import level
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.entry import curated

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
"""Far beyond any wait that is allowed; waits that are not allowed take longer still."""


SEARCHES = ("rows", "count")
EVERYTHING = (*SEARCHES, "get", "put", "delete", "touch")


class HungStore(DictStore):
    """Never answers what hangs."""

    hangs: tuple[str, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        hangs = object.__getattribute__(self, "hangs")
        return object.__getattribute__(self, "never" if name in hangs else name)

    async def never(self, *args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads end at once, and whatever waits as long as a write does so for ever."""
    monkeypatch.setattr(level, "READ_S", 0.001)
    monkeypatch.setattr(level, "WRITE_S", 1e6)


@pytest.mark.parametrize("hangs", [EVERYTHING, SEARCHES], ids=["everything", "searches"])
async def test_questions_wait_for_reads_alone(hangs: tuple[str, ...]) -> None:
    store = HungStore("second")
    cache = AnswerCache([DictStore("first"), store], SECRET)
    cache.levels[1]._now = lambda: 0.0  # once it has failed it is not asked again
    await cache.open()
    await cache.keep(entry(question()))
    await cache.flush()
    store.hangs = hangs
    async with asyncio.timeout(PATIENCE_S):
        for text in ("Is it on?", "Another?", "A third?"):
            await cache.look_up(question(text), PLAIN)
            await cache.look_up(question(text, tenant="b"), PLAIN)
    assert isinstance(await cache.look_up(question(), PLAIN), Found)
    assert cache.levels[1].num_errors == (hangs is EVERYTHING)
    store.hangs = ()
    await cache.close()


async def test_what_was_known_of_curated_answers_holds_while_the_store_hangs() -> None:
    class Clock:
        now_s = 1e9

    store = HungStore("second")
    cache = AnswerCache([DictStore("first"), store], SECRET, now=lambda: Clock.now_s)
    await cache.open()
    await cache.put_now([curated("", "Is it on?", "Look at the lamp.").row()])
    assert isinstance(await cache.look_up(question(temperature=1.0), PLAIN), Found)
    await asyncio.gather(*cache._presence._tasks)
    store.hangs = EVERYTHING
    Clock.now_s += 100
    async with asyncio.timeout(PATIENCE_S):
        assert isinstance(await cache.look_up(question(temperature=1.0), PLAIN), Found)
    store.hangs = ()
    await cache.close()


async def test_a_tenant_without_curated_answers_is_not_looked_up_among_them() -> None:
    store = DictStore("second")
    cache = AnswerCache([DictStore("first"), store], SECRET)
    await cache.open()
    await cache.look_up(question(temperature=1.0), PLAIN)
    await asyncio.gather(*cache._presence._tasks)
    before = store.num_gets
    assert isinstance(await cache.look_up(question(temperature=1.0), PLAIN), Missed)
    assert store.num_gets == before
    await cache.close()
