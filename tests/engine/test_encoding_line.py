"""Texts become tokens in turns: long ones hold no short ones up, and one tenant's not everybody else's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from miaotui import SamplingParams
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.encoding_line import LONG_TEXT_CHARS, NUM_SHORT_THREADS, EncodingLines, num_characters
from miaotui.errors import ContextLengthError, EngineStoppedError, InvalidRequestError, OverloadedError
from miaotui.formats.chat_template import MAX_INPUT_NODES

LONG = LONG_TEXT_CHARS + 1
SHORT = 2


class Desk:
    """Starts work on texts that waits for `go`, and writes down in which order it was begun and done."""

    def __init__(self) -> None:
        self.lines = EncodingLines()
        self.go = threading.Semaphore(0)
        self.begun: list[str] = []
        self.done: list[str] = []

    def start(self, name: str, num_chars: int, tenant: str) -> asyncio.Task[str]:
        return asyncio.create_task(self.lines.run(lambda: self._work(name), num_chars, tenant))

    async def started(self, *work: tuple[str, int, str]) -> list[asyncio.Task[str]]:
        tasks = [self.start(*one) for one in work]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    def _work(self, name: str) -> str:
        self.begun.append(name)
        self.go.acquire()
        self.done.append(name)
        return name


def run(use: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        desk = Desk()
        try:
            await use(desk)
        finally:
            desk.go.release(1000)
            desk.lines.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_short_text_does_not_wait_for_anybodys_long_ones() -> None:
    async def use(desk: Desk) -> None:
        long = await desk.started(*[(f"long {i}", LONG, "greedy") for i in range(24)])
        assert await desk.lines.run(lambda: "short", SHORT, "other") == "short"
        assert not desk.done
        desk.go.release(24)
        await asyncio.gather(*long)

    run(use)


@pytest.mark.parametrize(("num_chars", "num_threads"), [(LONG, 1), (SHORT, NUM_SHORT_THREADS)])
def test_tenants_take_turns(num_chars: int, num_threads: int) -> None:
    async def use(desk: Desk) -> None:
        greedy = await desk.started(*[(f"greedy {i}", num_chars, "greedy") for i in range(num_threads + 6)])
        others = await desk.started(*[(f"other {i}", num_chars, "other") for i in range(2)])
        for _ in (*greedy, *others):  # one after the other; which of the threads goes on is chance
            before = len(desk.done)
            desk.go.release()
            while len(desk.done) == before:
                await asyncio.sleep(0)
        await asyncio.gather(*greedy, *others)
        assert {"other 0", "other 1"} <= set(desk.begun[: num_threads * 2 + 4])

    run(use)


def test_where_the_line_is_full_whoever_has_most_in_it_is_sent_away() -> None:
    async def use(desk: Desk) -> None:
        desk.lines.max_waiting = 3
        greedy = await desk.started(*[(f"greedy {i}", LONG, "greedy") for i in range(4)])
        with pytest.raises(OverloadedError, match="try again"):
            await desk.lines.run(lambda: "", LONG, "greedy")
        (other,) = await desk.started(("other", LONG, "other"))
        with pytest.raises(OverloadedError):
            await greedy.pop()
        desk.go.release(4)
        assert await asyncio.gather(*greedy, other) == ["greedy 0", "greedy 1", "greedy 2", "other"]

    run(use)


def test_what_nobody_waits_for_any_more_is_not_begun_and_blocks_nothing() -> None:
    async def use(desk: Desk) -> None:
        first, second, third = await desk.started(*[(name, LONG, "a") for name in ("first", "second", "third")])
        for task in (second, first):  # one in the line, one under way, which goes on in its thread
            task.cancel()
            await asyncio.wait((task,))
        assert not third.done()
        desk.go.release(2)
        assert await third == "third"
        assert desk.done == ["first", "third"]
        assert await desk.lines.run(lambda: "again", LONG, "a") == "again"

    run(use)


def test_a_turn_that_comes_to_one_who_has_just_been_cancelled_is_passed_on() -> None:
    async def use(desk: Desk) -> None:
        line = desk.lines._long
        await line.wait_for_turn("a", None)
        second, third = await desk.started(("second", LONG, "a"), ("third", LONG, "b"))
        line._pass_on()  # as if the first had ended
        second.cancel()
        desk.go.release()
        assert await asyncio.wait_for(third, 10) == "third"

    run(use)


def test_after_the_end_nothing_is_begun() -> None:
    async def use(desk: Desk) -> None:
        first, second = await desk.started(("first", LONG, "a"), ("second", LONG, "a"))
        desk.lines.close()
        with pytest.raises(EngineStoppedError):
            await desk.lines.run(lambda: "", SHORT, "a")
        desk.go.release()
        await first
        with pytest.raises(EngineStoppedError):
            await second

    run(use)


def test_texts_are_counted_wherever_they_stand() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "four"}]}, {"role": "tool", "content": "12"}]
    assert num_characters("four") == 4
    assert num_characters([1, 2, 3]) == 0
    assert num_characters((messages, None, {"x": ("ab", 1.0)})) == 4 + 4 + 4 + 4 + 2 + 2


def test_counting_ends_where_no_template_would_go_on() -> None:
    class Part(dict[str, str]):
        num_read = 0

        def values(self) -> Any:
            Part.num_read += 1
            return super().values()

    few = [Part(text="a") for _ in range(MAX_INPUT_NODES // 2 - 1)]
    assert num_characters(few) == len(few)
    Part.num_read = 0
    with pytest.raises(InvalidRequestError, match=r"messages .* at most 200000 values; send less"):
        num_characters([few] * 9)
    assert Part.num_read <= MAX_INPUT_NODES / 2


def test_long_texts_do_not_keep_others_from_starting(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        go, params = threading.Event(), SamplingParams(max_tokens=1)
        async with AsyncLLM(tiny_model) as llm:
            encode = llm.llm.tokenizer.encode_marked

            def held(text: str, mark: str) -> list[int]:
                assert len(text) < LONG or go.wait(60)
                return encode(text, mark)

            monkeypatch.setattr(llm.llm.tokenizer, "encode_marked", held)
            monkeypatch.setattr(llm.llm, "check_length", lambda text: None)  # as for a longer context
            asked = [{"role": "user", "content": "a" * LONG}]
            long = [asyncio.create_task(llm.generate(asked, params, tenant="greedy")) for _ in range(24)]
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(llm.generate("hi", params, tenant="other"), 30)
                assert not any(task.done() for task in long)
            finally:
                go.set()
            ended = await asyncio.gather(*long, return_exceptions=True)
            assert all(isinstance(one, ContextLengthError) for one in ended)

    asyncio.run(main())


def test_a_text_that_cannot_fit_is_refused_without_being_encoded(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with AsyncLLM(tiny_model, context_length=160) as llm:
            most = 160 * llm.llm.tokenizer.longest_token_bytes
            with pytest.raises(ContextLengthError, match="the prompt has"):
                await llm.generate("a" * most, max_tokens=1)
            monkeypatch.setattr(llm.llm.tokenizer, "encode", None)
            with pytest.raises(ContextLengthError, match=f"the text has {most + 1} bytes.*shorten"):
                await llm.generate("a" * (most + 1), max_tokens=1)
            with pytest.raises(ContextLengthError, match="shorten"):
                await llm.generate("\ud800" * most, max_tokens=1)

    asyncio.run(main())
