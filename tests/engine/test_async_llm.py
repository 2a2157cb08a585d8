"""Many callers, one engine thread: the same answers, each to whom it belongs, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from miaotui import LLM, SamplingParams
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.pages_ahead import PagesAhead
from miaotui.errors import (
    ContextLengthError,
    EngineStoppedError,
    InvalidRequestError,
    OverloadedError,
    SlowReaderError,
)

GREEDY = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)


def run(model: Path, use: Callable[[AsyncLLM], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncLLM(model, context_length=160, max_sequences=4) as llm:
            await use(llm)

    asyncio.run(asyncio.wait_for(main(), 60))


def free_pages(llm: AsyncLLM) -> int:
    return llm.llm.loaded.engine.scheduler.pool.num_free


async def idle(llm: AsyncLLM) -> None:
    """Until the engine has nothing left to do."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    while llm.llm.loaded.engine.scheduler.has_work:
        llm._thread.submit(lambda engine: loop.call_soon_threadsafe(done.set))
        await done.wait()
        done.clear()


def test_pages_get_memory_while_there_is_nothing_to_do_and_work_comes_first(tiny_model: Path) -> None:
    class Ahead:
        """Never has enough."""

        num_turns = 0

        def go_on(self) -> bool:
            self.num_turns += 1
            return False

    async def use(llm: AsyncLLM) -> None:
        llm.llm.loaded.engine.ahead = ahead = cast("PagesAhead", Ahead())
        while ahead.num_turns < 3:
            await asyncio.sleep(0.01)
        assert (await llm.generate("the", GREEDY)).text

    run(tiny_model, use)


def hold_steps(llm: AsyncLLM, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Each step needs a permit from now on."""
    engine, permits = llm.llm.loaded.engine, threading.Semaphore(0)
    step = engine.step

    def held() -> object:
        permits.acquire()
        return step()

    monkeypatch.setattr(engine, "step", held)
    return permits


def test_callers_at_once_get_what_they_would_get_alone(tiny_model: Path) -> None:
    prompts = [[5 + i, 6, 7 + i] for i in range(9)]
    with LLM(tiny_model, context_length=160) as alone:
        want = [alone.generate(prompt, GREEDY) for prompt in prompts]

    async def use(llm: AsyncLLM) -> None:
        got = await asyncio.gather(*(llm.generate(prompt, GREEDY, tenant=str(i)) for i, prompt in enumerate(prompts)))
        assert [c.token_ids for c in got] == [c.token_ids for c in want]
        assert [c.text for c in got] == [c.text for c in want]

    run(tiny_model, use)


def test_parts_add_up_to_the_whole(tiny_model: Path) -> None:
    async def use(llm: AsyncLLM) -> None:
        answer = await llm.stream("the cat", GREEDY, n=2)
        texts = ["", ""]
        async for part in answer:
            texts[part.index] += part.text
        assert answer.completion is not None
        assert texts == [answer.completion.text, answer.completion.others[0].text]

    run(tiny_model, use)


def test_what_is_left_early_frees_its_pages(tiny_model: Path) -> None:
    async def use(llm: AsyncLLM) -> None:
        before = free_pages(llm)
        for _ in range(20):
            async with aclosing(await llm.stream("the cat", GREEDY, max_tokens=120)) as answer:
                await anext(answer)
        await idle(llm)
        assert free_pages(llm) == before
        llm.llm.loaded.engine.check_integrity()

    run(tiny_model, use)


def test_callers_cancelled_while_they_wait_leave_nothing_behind(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(llm: AsyncLLM) -> None:
        before = free_pages(llm)
        permits = hold_steps(llm, monkeypatch)
        tasks = [asyncio.create_task(llm.generate("the cat", GREEDY, max_tokens=120)) for _ in range(12)]
        await asyncio.sleep(0)
        for task in tasks[:4]:
            task.cancel()
        permits.release(5)
        while not llm._answers:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        permits.release(10_000)
        await idle(llm)
        assert free_pages(llm) == before
        assert not llm._answers

    run(tiny_model, use)


def test_errors_reach_the_caller_who_made_them(tiny_model: Path) -> None:
    async def use(llm: AsyncLLM) -> None:
        good = asyncio.create_task(llm.generate("the cat", GREEDY))
        with pytest.raises(ContextLengthError):
            await llm.generate("the cat", GREEDY, max_tokens=4000)
        with pytest.raises(InvalidRequestError):
            await llm.generate("the cat", temperature=-1)
        assert (await good).finish_reason == "length"

    run(tiny_model, use)


def test_unread_parts_take_little_room_and_nothing_of_them_is_lost(tiny_model: Path) -> None:
    async def use(llm: AsyncLLM) -> None:
        want = await llm.generate("the cat", GREEDY, max_tokens=120)
        answer = await llm.stream("the cat", GREEDY, max_tokens=120)
        await idle(llm)
        assert len(answer._parts) <= 2
        parts = [part async for part in answer]
        assert "".join(part.text for part in parts) == want.text
        assert sum((part.token_ids for part in parts), ()) == want.token_ids
        assert [part.finish_reason for part in parts if part.finish_reason] == ["length"]

    run(tiny_model, use)


def test_a_reader_who_sleeps_is_cancelled(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.engine.answer.MAX_UNREAD_BYTES", 1000)

    async def use(llm: AsyncLLM) -> None:
        answer = await llm.stream("the cat", GREEDY, max_tokens=120)
        await idle(llm)
        with pytest.raises(SlowReaderError):
            await answer.whole()

    run(tiny_model, use)


def test_a_failed_step_ends_every_answer_with_an_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(llm: AsyncLLM) -> None:
        engine = llm.llm.loaded.engine
        waiting = [asyncio.create_task(llm.generate("the cat", GREEDY, max_tokens=120)) for _ in range(6)]
        await asyncio.sleep(0)

        def broken() -> None:
            raise OSError("the step failed")

        monkeypatch.setattr(engine, "step", broken)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, EngineStoppedError) for result in results)
        assert not llm.is_alive
        with pytest.raises(EngineStoppedError, match="the step failed"):
            await llm.generate("the cat", GREEDY)

    run(tiny_model, use)


def test_closing_ends_what_is_under_way(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        llm = AsyncLLM(tiny_model, context_length=160)
        permits = hold_steps(llm, monkeypatch)
        task = asyncio.create_task(llm.generate("the cat", GREEDY, max_tokens=150))
        permits.release(3)
        while not llm._answers:
            await asyncio.sleep(0)
        closing = asyncio.create_task(llm.aclose())
        while not llm._thread._closing:
            await asyncio.sleep(0)
        permits.release(10_000)
        await closing
        with pytest.raises(EngineStoppedError, match="closed"):
            await task
        await llm.aclose()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_who_has_just_begun_takes_one_place(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(llm: AsyncLLM) -> None:
        llm.max_waiting = 0  # beside four that run
        told: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        engine, may_go_on = llm.llm.loaded.engine, threading.Event()

        def held() -> object:
            may_go_on.wait(60)
            return type(engine).step(engine)

        monkeypatch.setattr(engine, "step", held)
        with monkeypatch.context() as patch:  # the loop has not heard yet that the engine has begun
            patch.setattr(llm, "_post", lambda function, *arguments: told.append((function, arguments)))
            first = asyncio.create_task(llm.stream("the cat", GREEDY, n=3))
            while not told:
                await asyncio.sleep(0.001)
            assert engine.scheduler.num_unfinished == 3
            llm.check_room(1, "")
            with pytest.raises(OverloadedError):
                llm.check_room(2, "")
        for function, arguments in told:
            function(*arguments)
        may_go_on.set()
        async with aclosing(await first) as answer:
            assert len((await answer.whole()).others) == 2

    run(tiny_model, use)


def test_one_tenant_cannot_take_all_the_room_there_is_to_wait_in(tiny_model: Path) -> None:
    async def use(llm: AsyncLLM) -> None:
        llm.max_waiting, llm.max_open_per_tenant = 8, 4
        greedy = await llm.stream("the cat", GREEDY, tenant="a", n=3)
        with pytest.raises(OverloadedError, match="3 requests of yours"):
            await llm.stream("the cat", GREEDY, tenant="a", n=2)
        other = await llm.stream("the cat", GREEDY, tenant="b", n=4)
        await greedy.aclose()
        await other.aclose()
        await idle(llm)
        while llm._open:
            await asyncio.sleep(0)
        async with aclosing(await llm.stream("the cat", GREEDY, tenant="a", n=4)) as again:
            assert len((await again.whole()).others) == 3

    run(tiny_model, use)


def test_an_end_within_a_call_cannot_be_asked_for(tiny_model: Path) -> None:
    tools = [{"type": "function", "function": {"name": "note"}}]

    async def use(llm: AsyncLLM) -> None:
        with pytest.raises(InvalidRequestError, match="stop_when must be left out where tools are offered"):
            await llm.stream("the cat", GREEDY, tools=tools, stop_when="json")
        assert llm.num_waiting == 0

    run(tiny_model, use)
