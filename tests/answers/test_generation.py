"""What one process takes out, no other one serves for long; memory keeps what nobody has touched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from answers.conftest import OpenStore, empty
from answers.dict_store import DictStore
from answers.test_cache import PLAIN, SECRET, Clock, entry, question
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.curated import import_pairs
from miaotui.answers.entry import curated
from miaotui.answers.generation import LOOK_S
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store
from miaotui.answers.verdict import reject

pytestmark = pytest.mark.anyio
Change = Callable[[AnswerCache], Awaitable[object]]

CHANGES: dict[str, Change] = {
    "reject": lambda cache: reject(cache, "", question().key),
    "delete": lambda cache: cache.delete(Filter("answer", "", key=question().key)),
    "purge": lambda cache: cache.delete(Filter("answer")),
}


async def path_of(cache: AnswerCache, **params: Any) -> str:
    found = await cache.look_up(question(**params), PLAIN)
    return found.path if isinstance(found, Found) else "none"


async def two_caches(store: Callable[[], Any], clock: Clock) -> tuple[AnswerCache, AnswerCache]:
    caches = tuple(AnswerCache([open_store("memory:"), store()], SECRET, now=clock) for _ in range(2))
    for cache in caches:
        await cache.open()
    return caches  # type: ignore[return-value]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_another_process_took_out_is_not_served_after_a_second(change: Change, tmp_path: Path) -> None:
    clock = Clock()
    here, there = await two_caches(lambda: open_store(f"sqlite:{tmp_path / 'a.db'}"), clock)
    await here.keep(entry(question()))
    await here.keep(entry(question(tenant="b")))
    await here.flush()
    assert (await path_of(here), await path_of(here, tenant="b")) == ("memory", "memory")
    await change(there)
    assert await path_of(here) == "memory"  # it does not ask all the time
    clock.now_s += LOOK_S
    assert await path_of(here) == "none"
    assert await path_of(here, tenant="b") == ("none" if change is CHANGES["purge"] else "memory")
    await here.close()
    await there.close()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_the_same_over_a_server(kind: str, url_of: Callable[[str], str], opening: OpenStore) -> None:
    await empty(await opening(url_of(kind)))
    clock = Clock()
    here, there = await two_caches(lambda: open_store(url_of(kind)), clock)
    await here.keep(entry(question()))
    await here.flush()
    assert await path_of(here) == "memory"
    assert await reject(there, "", question().key) is not None
    clock.now_s += LOOK_S
    assert await path_of(here) == "none"
    await here.close()
    await there.close()


async def test_an_answer_that_is_imported_anew_replaces_the_one_in_memory(tmp_path: Path) -> None:
    clock = Clock()
    here, there = await two_caches(lambda: open_store(f"sqlite:{tmp_path / 'a.db'}"), clock)
    assert await path_of(here, temperature=1.0) == "none"
    for answer in ("At 9.", "At 10."):
        await import_pairs(there, [curated("", "Is it on?", answer)])
        clock.now_s += LOOK_S
        found = await here.look_up(question(temperature=1.0), PLAIN)
        assert isinstance(found, Found)
        assert (found.path, found.entry.answer) == ("curated", answer)
    await here.close()
    await there.close()


async def test_two_changes_at_the_same_time_are_both_noticed(tmp_path: Path) -> None:
    clock = Clock()
    here, there = await two_caches(lambda: open_store(f"sqlite:{tmp_path / 'a.db'}"), clock)
    for text in ("Is it on?", "Is it off?"):
        await here.keep(entry(question(text)))
    await here.flush()
    assert await path_of(here) == "memory"
    await reject(there, "", question().key)
    await reject(here, "", question("Is it off?").key)  # writes a mark of its own over the other's
    clock.now_s += LOOK_S
    assert (await path_of(here), await path_of(here, text="Is it off?")) == ("none", "none")
    await here.close()
    await there.close()


async def test_everybody_who_asks_while_the_store_is_looked_at_waits_for_what_it_says() -> None:
    class Remote(DictStore):
        async def get(self, name: Any, now_s: float) -> Any:
            await asyncio.sleep(0)
            return await super().get(name, now_s)

    store, clock = Remote("second"), Clock()
    here, there = await two_caches(lambda: store, clock)
    await here.keep(entry(question()))
    await here.flush()
    await path_of(here)
    await reject(there, "", question().key)
    clock.now_s += LOOK_S
    assert await asyncio.gather(*(path_of(here) for _ in range(5))) == ["none"] * 5
    await here.close()
    await there.close()


async def test_a_store_that_fails_leaves_memory_as_it_is_and_is_asked_again() -> None:
    store, clock = DictStore("second"), Clock()
    here, there = await two_caches(lambda: store, clock)
    here.levels[1]._now = lambda: clock.now_s
    await here.keep(entry(question()))
    await here.flush()
    assert await path_of(here) == "memory"
    await reject(there, "", question().key)
    clock.now_s += LOOK_S
    store.is_down = True
    assert await path_of(here) == "memory"
    store.is_down = False
    clock.now_s += LOOK_S
    await path_of(here)
    opening = here.levels[1]._opening
    assert opening is not None
    await opening
    clock.now_s += LOOK_S
    assert await path_of(here) == "none"
    await here.close()
    await there.close()


async def test_a_row_that_is_read_while_it_is_taken_out_does_not_stay_in_memory() -> None:
    class Slow(DictStore):
        async def get(self, name: Any, now_s: float) -> Any:
            row = await super().get(name, now_s)
            if name[0] == "answer" and row is not None and between:
                await between.pop()()
            return row

    between: list[Callable[[], Awaitable[object]]] = []
    store, clock = Slow("second"), Clock()
    here, there = await two_caches(lambda: store, clock)
    await there.keep(entry(question()))
    await there.flush()
    await path_of(here, text="Another?")

    async def meanwhile() -> None:
        await there.delete(Filter("answer", "", key=question().key))
        clock.now_s += LOOK_S
        await path_of(here, text="Another?")

    between.append(meanwhile)
    assert await path_of(here) == "store"
    assert isinstance(await here.look_up(question(), PLAIN), Missed)
    await here.close()
    await there.close()
