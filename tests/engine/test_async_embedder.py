from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.tiny_bert import HIDDEN, some_texts
from miaotui import AsyncEmbedder, Embedder
from miaotui.errors import ContextLengthError, EngineStoppedError, InvalidRequestError, OverloadedError


class Gated(Embedder):
    """Waits before each step until it is let go, and notes what was in it."""

    def __init__(self, model: Path) -> None:
        super().__init__(model, max_tokens_per_step=64)
        self.gate = threading.Semaphore(0)
        self.steps: list[int] = []
        self.fail: Exception | None = None

    def step(self, token_ids):  # type: ignore[no-untyped-def]
        self.gate.acquire()
        self.steps.append(len(token_ids))
        if self.fail is not None:
            raise self.fail
        return super().step(token_ids)


@asynccontextmanager
async def opened(model: Path, **options: int) -> AsyncIterator[tuple[AsyncEmbedder, Gated]]:
    gated = Gated(model)
    async with AsyncEmbedder(gated, **options) as embedder:
        try:
            yield embedder, gated
        finally:
            gated.gate.release(10**6)


def running(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_callers_get_what_the_embedder_alone_would_give_them(tiny_bert: Path) -> None:
    async def test() -> None:
        with Embedder(tiny_bert) as plain:
            async with AsyncEmbedder(tiny_bert) as embedder:
                lists = [some_texts(length, length) for length in (1, 40, 3, 1)]
                results = await asyncio.gather(*(embedder.embed(texts, dimensions=9) for texts in lists))
                for texts, vectors in zip(lists, results, strict=True):
                    np.testing.assert_array_equal(vectors, plain.embed(texts, dimensions=9))
                assert (await embedder.embed([])).shape == (0, HIDDEN)
                counted = await embedder.embed_counted(["the cat", "a"])
                assert counted.num_tokens == 4 + 3
                assert min(counted.queue_s, counted.read_s) > 0
                assert embedder.num_waiting == 0

    running(test)


def test_callers_share_steps_and_a_single_text_does_not_wait_behind_a_long_list(tiny_bert: Path) -> None:
    async def test() -> None:
        async with opened(tiny_bert) as (embedder, gated):
            first = asyncio.create_task(embedder.embed(["cat"]))
            await until(lambda: embedder._open and not embedder._jobs)  # its step is under way
            long = asyncio.create_task(embedder.embed(["the red cat is on the light"] * 30))
            await until(lambda: len(embedder._open) == 2)
            short = asyncio.create_task(embedder.embed(["dog"]))
            await until(lambda: len(embedder._open) == 3)
            gated.gate.release(2)  # that step, and one for those who have come since
            await short
            await first
            assert not long.done()
            assert len(gated.steps) == 2
            gated.gate.release(100)
            assert (await long).shape == (30, HIDDEN)

    running(test)


def test_more_texts_than_may_wait_are_refused_and_a_long_list_alone_is_not(tiny_bert: Path) -> None:
    async def test() -> None:
        async with opened(tiny_bert, max_waiting=4) as (embedder, gated):
            many = asyncio.create_task(embedder.embed(["cat"] * 10))
            await until(lambda: embedder._open)
            with pytest.raises(OverloadedError, match="10 texts wait already"):
                await embedder.embed(["dog"])
            gated.gate.release(100)
            await many
            await embedder.embed(["dog"])

    running(test)


def test_a_caller_that_leaves_costs_no_further_steps(tiny_bert: Path) -> None:
    async def test() -> None:
        async with opened(tiny_bert) as (embedder, gated):
            leaving = asyncio.create_task(embedder.embed(["the red cat is on the light"] * 30))
            await until(lambda: embedder._open)
            gated.gate.release()
            await until(lambda: gated.steps)
            leaving.cancel()
            await asyncio.wait((leaving,))
            assert embedder.num_waiting == 0
            gated.gate.release(100)
            await embedder.embed(["dog"])
            await until(lambda: not embedder._jobs)
            assert sum(gated.steps) < 20  # the steps begun when the caller left, and the dog

    running(test)


def test_a_step_that_fails_fails_those_in_it_and_nobody_else(tiny_bert: Path) -> None:
    async def test() -> None:
        async with opened(tiny_bert) as (embedder, gated):
            gated.fail = MemoryError("none left")
            gated.gate.release(100)
            with pytest.raises(MemoryError):
                await embedder.embed(["cat"])
            gated.fail = None
            await embedder.embed(["cat"])
            assert embedder.is_alive

    running(test)


def test_errors_in_what_was_asked_are_told_and_nothing_stays(tiny_bert: Path) -> None:
    async def test() -> None:
        async with AsyncEmbedder(tiny_bert) as embedder:
            with pytest.raises(ContextLengthError):
                await embedder.embed(["cat " * 99])
            with pytest.raises(InvalidRequestError):
                await embedder.embed("cat")
            with pytest.raises(InvalidRequestError):
                await embedder.embed(["cat"], dimensions=0)
            assert embedder.num_waiting == 0
            assert (await embedder.embed(["cat " * 99], truncate=True)).shape == (1, HIDDEN)

    running(test)


def test_who_waits_when_it_is_closed_is_told(tiny_bert: Path) -> None:
    async def test() -> None:
        async with opened(tiny_bert) as (embedder, gated):
            waiting = asyncio.create_task(embedder.embed(["the red cat is on the light"] * 30))
            await until(lambda: embedder._open)
            closing = asyncio.create_task(embedder.aclose())
            await until(lambda: embedder._closing)
            gated.gate.release()
            await closing
            with pytest.raises(EngineStoppedError, match="closed"):
                await waiting
            with pytest.raises(EngineStoppedError, match="closed"):
                await embedder.embed(["cat"])
            assert not embedder.is_alive

    running(test)
