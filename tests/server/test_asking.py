"""Who asks the same shares what is computed where it is the same; what became of each is written down at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from answers.askers import LENGTH, Model, asked, asker
from answers.claiming_store import ClaimingStore
from answers.dict_store import DictStore
from answers.test_cache import SECRET, question
from miaotui.answers import nearby
from miaotui.answers.cache import AnswerCache
from miaotui.answers.entry import generated
from miaotui.core import SamplingParams
from miaotui.errors import OverloadedError
from miaotui.server.asking import Ask, Asker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def cache() -> AsyncIterator[AnswerCache]:
    opened = AnswerCache([DictStore("first"), DictStore("second")], SECRET)
    await opened.open()
    yield opened
    await opened.close()


async def started(*work: Any) -> list[asyncio.Task[Any]]:
    """Tasks, as far as they come before the model ends."""
    tasks = []
    for each in work:
        tasks.append(asyncio.create_task(each))
        for _ in range(50):
            await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("limits", [(5, 50), (50, 5)])
async def test_equal_questions_with_other_limits_are_computed_apart(cache: AnswerCache, limits: Sequence[int]) -> None:
    model = Model()
    by = asker(cache, model)
    model.may_end.clear()
    tasks = await started(*(asked(by, max_tokens=limit) for limit in limits))
    model.may_end.set()
    said = await asyncio.gather(*tasks)
    assert [len(one.token_ids) for one in said] == [min(limit, LENGTH) for limit in limits]
    assert [one.receipt.path for one in said] == ["model", "model"]


async def test_equal_questions_with_equal_limits_are_computed_once(cache: AnswerCache) -> None:
    model = Model()
    by = asker(cache, model)
    model.may_end.clear()
    tasks = await started(*(asked(by, request_id=str(number)) for number in range(3)))
    model.may_end.set()
    said = await asyncio.gather(*tasks)
    assert (model.num_computed, [one.receipt.path for one in said]) == (1, ["model", "shared", "shared"])
    decisions = [await cache.why(str(number), "") for number in range(3)]
    assert [one and one.path for one in decisions] == ["model", "shared", "shared"]
    assert [one and one.saved_s for one in decisions] == [0.0, 3.5, 3.5]


async def test_who_has_a_deadline_neither_joins_others_nor_ends_what_they_read(cache: AnswerCache) -> None:
    model = Model()
    by = asker(cache, model)
    model.may_end.clear()
    timed = [asked(by, deadline_ms=1e6), asked(by), asked(by, deadline_ms=1e6)]
    tasks = await started(*timed)
    model.may_end.set()
    said = await asyncio.gather(*tasks)
    assert (model.num_computed, [one.receipt.path for one in said]) == (3, ["model"] * 3)
    assert by._flights == {}
    assert (await asked(by)).receipt.path == "memory", "what it said is kept as others' is"


async def test_who_flies_alone_gives_back_no_lease_that_others_hold(
    cache: AnswerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    led: list[Any] = []
    monkeypatch.setattr(cache, "led", led.append)
    by = asker(cache, Model())
    await asked(by, "one", deadline_ms=1e6)
    assert led == []
    await asked(by, "other")
    assert len(led) == 1


async def test_who_wants_a_new_answer_does_not_join_those_who_do_not(cache: AnswerCache) -> None:
    model = Model()
    by = asker(cache, model)
    model.may_end.clear()
    tasks = await started(asked(by), asked(by, mode="refresh"), asked(by, mode="refresh"))
    model.may_end.set()
    said = await asyncio.gather(*tasks)
    assert [one.receipt.path for one in said] == ["model", "model", "shared"]


async def test_an_answer_made_with_yesterday_s_date_is_not_given_today(cache: AnswerCache) -> None:
    model = Model()
    by = asker(cache, model)
    paths = []
    for date in ("1 May", "1 May", "2 May", "1 May"):
        model.dates = (date,)
        paths.append((await asked(by)).receipt.path)
    assert paths == ["model", "memory", "model", "memory"]


class DoubtfulEncoder:
    """All questions look alike to it; asked for a comparison it raises or hangs."""

    def __init__(self, fault: str) -> None:
        self.fault, self.num_compared = fault, 0

    async def __call__(self, texts: Sequence[str]) -> Any:
        if len(texts) == 2:
            self.num_compared += 1
            if self.fault == "hangs":
                await asyncio.Event().wait()
            raise OverloadedError("too much waits.") if self.fault == "refuses" else ValueError("broken")
        rows = np.zeros((len(texts), 32), np.float32)
        rows[:, 0] = 1.0
        return rows


@pytest.mark.parametrize("fault", ["hangs", "refuses", "is broken"])
async def test_what_is_learned_from_an_answer_neither_delays_nor_fails_it(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearby, "compared", lambda one, other: True)  # the encoder decides
    cache, encoder = AnswerCache([DictStore("first"), DictStore("second")], SECRET), DoubtfulEncoder(fault)
    cache.use_near(1e-6, "all-MiniLM-L6-v2", encoder)
    await cache.open()
    kept = question("How do I reset my password?")
    seen = await cache.look_up(kept, Ask([], SamplingParams(), "", "").control)
    await cache.keep(generated(kept, "Yes, ask Ann.", vector=seen.vector, output_tokens=3))  # type: ignore[union-attr]
    by = asker(cache, Model())
    errors = cache.counters()["errors"]
    async with asyncio.timeout(60):
        said = await asked(by, "How can I reset my password?")
    assert said.finish_reason == "stop"
    async with asyncio.timeout(60):
        while not encoder.num_compared or (fault != "hangs" and cache._comparing):
            await asyncio.sleep(0.001)
    assert encoder.num_compared == 1
    assert cache.counters()["errors"] - errors == (fault == "refuses")
    async with asyncio.timeout(60):
        await cache.close()
    assert not cache._comparing


async def test_a_computed_answer_s_decision_tells_what_it_cost(cache: AnswerCache) -> None:
    by = asker(cache, Model())
    for temperature in (0, 1.0):  # one that is kept, one that is not
        await asked(by, request_id=f"r{temperature}", temperature=temperature)
        decision = await cache.why(f"r{temperature}", "")
        assert decision is not None
        assert decision.path == "model"
        assert {name: decision.times_s[name] for name in ("queue", "prefill", "decode")} == {
            "queue": 0.5, "prefill": 1.0, "decode": 2.0,
        }  # fmt: skip
        assert "look_up" in decision.times_s


async def test_another_process_s_answer_is_called_the_same_in_receipt_and_decision() -> None:
    store, model = ClaimingStore(), Model()
    caches = [AnswerCache([DictStore("own"), store], SECRET) for _ in range(2)]
    for cache in caches:
        await cache.open()
    askers = [asker(cache, model) for cache in caches]
    model.may_end.clear()
    tasks = await started(*(asked(by, request_id=str(n)) for n, by in enumerate(askers)))
    model.may_end.set()
    said = await asyncio.gather(*tasks)
    assert [one.receipt.path for one in said] == ["model", "store"]
    for number, one in enumerate(said):
        decision = await caches[number].why(str(number), "")
        assert decision is not None
        assert (decision.path, decision.saved_s) == (one.receipt.path, one.receipt.saved_s)
    assert said[1].receipt.saved_s == 3.0
    for cache in caches:
        await cache.close()


async def test_who_looks_while_the_answer_is_kept_has_no_other_one_computed() -> None:
    class Slow(DictStore):
        async def get(self, name: Any, now_s: float) -> Any:
            row = await super().get(name, now_s)
            if between and name == ("answer", "", question().key):
                await between.pop()
            return row

    between: list[Any] = []
    cache, model = AnswerCache([DictStore("own"), Slow("second")], SECRET), Model()
    await cache.open()
    by = asker(cache, model)
    between.append(asked(by))  # from beginning to end, between a look and what it leads to
    assert (await asked(by)).receipt.path == "memory"
    assert model.num_computed == 1
    await cache.close()


async def test_an_answer_that_is_left_leaves_a_decision_that_says_so(cache: AnswerCache) -> None:
    model = Model()
    model.may_end.clear()
    by: Asker = asker(cache, model)
    answer = await by.ask(Ask([{"role": "user", "content": "x"}], SamplingParams(temperature=0), "", "left"))
    assert await cache.why("left", "") is None
    await answer.aclose()
    await answer.aclose()
    decision = await cache.why("left", "")
    assert decision is not None
    assert (decision.path, "before it had ended" in decision.why) == ("model", True)


@pytest.mark.parametrize("has_cache", [True, False])
async def test_what_is_not_to_be_stored_is_no_draft_of_later_answers(cache: AnswerCache, has_cache: bool) -> None:
    model = Model()
    by = asker(cache if has_cache else None, model)
    for number, mode in enumerate(("default", "no-store", "refresh")):
        await asked(by, f"Is it on number {number}?", mode=mode)
    assert model.kept == [True, False, True]
