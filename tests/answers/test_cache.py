"""Kept answers come back exactly where they answer the question, and never where a row was touched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.control import CacheControl
from miaotui.answers.decision import Decision
from miaotui.answers.entry import Entry, curated, generated
from miaotui.answers.level import FIRST_PAUSE_S
from miaotui.answers.question import Question
from miaotui.answers.store import Filter
from miaotui.core import SamplingParams
from miaotui.errors import StoreError

SECRET = b"s" * 32
PLAIN = CacheControl()


def question(text: str = "Is it on?", tenant: str = "", **params: Any) -> Question:
    return Question(tenant, "m", [{"role": "user", "content": text}], SamplingParams(**{"temperature": 0, **params}))


def entry(asked: Question, answer: str = "Yes.", **facts: Any) -> Entry:
    return generated(asked, answer, output_tokens=3, cost_s=2.0, **facts)


class Clock:
    now_s = 1e9

    def __call__(self) -> float:
        return self.now_s


def with_cache(work: Callable[[AnswerCache, list[DictStore], Clock], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        stores, clock = [DictStore("first"), DictStore("second")], Clock()
        cache = AnswerCache(stores, SECRET, now=clock, **options)
        await cache.open()
        try:
            await work(cache, stores, clock)
        finally:
            await cache.close()

    asyncio.run(run())


def test_a_kept_answer_comes_from_memory_at_once_and_from_the_store_after_a_restart() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question()))
        found = await cache.look_up(question(), PLAIN)
        assert isinstance(found, Found)
        assert (found.path, found.entry.answer) == ("memory", "Yes.")
        await cache.flush()
        stores[0].kept.clear()
        again = await cache.look_up(question(), PLAIN)
        assert isinstance(again, Found)
        assert again.path == "store"
        third = await cache.look_up(question(), PLAIN)
        assert isinstance(third, Found)
        assert third.path == "memory"
        assert cache.saved_s == 6.0
        assert cache.counters()["hits"] == {"memory": 2, "store": 1, "curated": 0, "near": 0}

    with_cache(work)


def test_another_tenant_finds_nothing() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(tenant="a")))
        assert isinstance(await cache.look_up(question(tenant="b"), PLAIN), Missed)
        assert await cache.entry(question(tenant="a").key, "b") is None

    with_cache(work)


@pytest.mark.parametrize(
    "change", [{"text": "x"}, {"payload": b"{}"}, {"tenant": "b"}, {"expires_s": 9e9}, {"tags": ("x",)}, {"mac": b""}]
)
def test_a_row_that_was_edited_counts_as_not_there(change: dict[str, Any]) -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question()))
        await cache.flush()
        for store in stores:
            store.kept = {name: replace(row, **change) for name, row in store.kept.items()}
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        assert cache.counters()["tampered"] > 0

    with_cache(work)


def test_another_row_put_in_its_place_counts_as_not_there() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question("Is it off?"), "No."))
        await cache.flush()
        for store in stores:
            (row,) = store.kept.values()
            store.kept["answer", "", question().key] = row
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)

    with_cache(work)


def test_no_store_neither_reads_nor_keeps_and_refresh_only_keeps() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question()))
        for mode, keep in (("no-store", False), ("refresh", True)):
            missed = await cache.look_up(question(), CacheControl(mode))  # type: ignore[arg-type]
            assert isinstance(missed, Missed)
            assert missed.keep is keep

    with_cache(work)


def test_an_answer_that_is_too_old_or_too_long_for_the_request_is_not_given() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(replace(entry(question()), created_s=clock.now_s - 100))
        assert isinstance(await cache.look_up(question(), CacheControl(max_age_s=99)), Missed)
        assert isinstance(await cache.look_up(question(), CacheControl(max_age_s=101)), Found)
        assert isinstance(await cache.look_up(question(max_tokens=2), PLAIN), Missed)
        assert isinstance(await cache.look_up(question(max_tokens=3), PLAIN), Found)

    with_cache(work)


def test_an_answer_holds_for_the_time_it_was_given() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(replace(entry(question()), created_s=clock.now_s))
        clock.now_s += 59
        assert isinstance(await cache.look_up(question(), PLAIN), Found)
        clock.now_s += 2
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)

    with_cache(work, ttl_s=60)


def test_what_people_wrote_ranks_before_what_was_generated_and_holds_at_any_temperature() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question()))
        await cache.put_now([curated("", "is it  on", "Look at the lamp.").row()])
        for asked in (question(), question(temperature=1.0)):
            found = await cache.look_up(asked, PLAIN)
            assert isinstance(found, Found)
            assert (found.path, found.entry.answer) == ("curated", "Look at the lamp.")
        assert isinstance(await cache.look_up(question("Is it off?"), PLAIN), Missed)

    with_cache(work)


def test_a_store_that_is_down_costs_no_answer_and_comes_back_by_itself() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        later = Clock()
        cache.levels[1]._now = later
        stores[1].is_down = True
        await cache.keep(entry(question()))
        await cache.flush()
        assert isinstance(await cache.look_up(question(), PLAIN), Found)
        assert isinstance(await cache.look_up(question("Another?"), PLAIN), Missed)
        state = cache.counters()["stores"][1]
        assert (state["works"], cache.counters()["dropped"]) == (False, 1)
        with pytest.raises(StoreError, match="told to fail"):
            await cache.rows(Filter("answer", ""))
        stores[1].is_down = False
        asked = stores[1].num_gets
        await cache.look_up(question("Another?"), PLAIN)
        assert stores[1].num_gets == asked  # its pause is not over
        later.now_s += FIRST_PAUSE_S
        await cache.look_up(question("Another?"), PLAIN)
        assert cache.levels[1]._opening is not None
        await cache.levels[1]._opening
        await cache.keep(entry(question("Another?")))
        await cache.flush()
        assert ("answer", "", question("Another?").key) in stores[1].kept

    with_cache(work)


def test_a_decision_can_be_read_again_by_its_tenant_alone() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        made = Decision(
            "r1", "a", "store", "because", clock.now_s, guards={"numbers": "passed"}, candidates=({"x": 1},)
        )
        cache.note(made)
        found = await cache.why("r1", "a")
        assert found is not None
        assert (found.path, found.guards, list(found.candidates)) == ("store", {"numbers": "passed"}, [{"x": 1}])
        assert await cache.why("r1", "b") is None

    with_cache(work)


def test_last_uses_are_written_down() -> None:
    stores: list[DictStore] = []

    async def work(cache: AnswerCache, made: list[DictStore], clock: Clock) -> None:
        stores.extend(made)
        await cache.keep(entry(question()))
        await cache.look_up(question(), PLAIN)

    with_cache(work)
    assert stores[1].used == {("answer", "", question().key): Clock.now_s}
