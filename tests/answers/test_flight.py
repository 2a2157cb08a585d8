"""Whoever asks the same at the same time reads the same computation; nobody's leaving harms the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from miaotui.answers.flight import Flight


class Parts:
    """A source that gives a part whenever it is told to."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | Exception | None] = asyncio.Queue()
        self.is_closed = False

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> int:
        part = await self.queue.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, Exception):
            raise part
        return part

    async def aclose(self) -> None:
        self.is_closed = True


class Fixture:
    def __init__(self) -> None:
        self.parts, self.landed, self.num_gone, self.may_start = Parts(), False, 0, asyncio.Event()
        self.may_start.set()
        self.flight: Flight[Parts, int] = Flight(self._start, self._land, self._go)

    async def _start(self) -> Parts:
        await self.may_start.wait()
        return self.parts

    async def _land(self, source: Parts) -> None:
        assert self.num_gone == 0
        self.landed = True

    def _go(self) -> None:
        self.num_gone += 1

    async def read(self) -> list[int]:
        await self.flight.join()
        return [part async for part in self.flight.parts()]


def run(work: Callable[[Fixture], Awaitable[None]]) -> None:
    async def whole() -> None:
        await work(Fixture())

    asyncio.run(whole())


def test_all_readers_have_all_parts_whenever_they_came() -> None:
    async def work(it: Fixture) -> None:
        first = asyncio.create_task(it.read())
        await asyncio.sleep(0)
        for part in (1, 2):
            it.parts.queue.put_nowait(part)
        await it.flight.join()
        later = it.flight.parts()
        assert [await anext(later), await anext(later)] == [1, 2]
        for end in (3, None):
            it.parts.queue.put_nowait(end)
        assert await first == [1, 2, 3]
        assert [part async for part in later] == [3]
        assert (it.landed, it.num_gone, it.parts.is_closed) == (True, 1, True)

    run(work)


def test_the_source_goes_on_while_anybody_reads_and_ends_with_the_last() -> None:
    async def work(it: Fixture) -> None:
        await it.flight.join()
        await it.flight.join()
        await it.flight.leave()
        it.parts.queue.put_nowait(1)
        assert await anext(it.flight.parts()) == 1
        assert not it.parts.is_closed
        await it.flight.leave()
        assert (it.parts.is_closed, it.landed, it.num_gone) == (True, False, 1)

    run(work)


def test_leaving_before_it_has_started_stops_it() -> None:
    async def work(it: Fixture) -> None:
        it.may_start.clear()
        waiting = asyncio.create_task(it.read())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (it.num_gone, it.flight.source) == (1, None)

    run(work)


def test_a_failure_is_every_reader_s() -> None:
    async def work(it: Fixture) -> None:
        readers = [asyncio.create_task(it.read()) for _ in range(3)]
        await asyncio.sleep(0)
        it.parts.queue.put_nowait(ValueError("broken"))
        results = await asyncio.gather(*readers, return_exceptions=True)
        assert [str(result) for result in results] == ["broken"] * 3
        assert (it.landed, it.num_gone) == (False, 1)

    run(work)


def test_a_start_that_fails_is_told_to_all() -> None:
    async def whole() -> None:
        async def start() -> Parts:
            raise ValueError("no room")

        async def land(source: Parts) -> None:
            raise AssertionError

        flight: Flight[Parts, int] = Flight(start, land, lambda: None)
        results = await asyncio.gather(flight.join(), flight.join(), return_exceptions=True)
        assert [str(result) for result in results] == ["no room"] * 2

    asyncio.run(whole())
