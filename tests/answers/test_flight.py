"""Whoever asks the same at the same time reads the same computation; nobody's leaving harms the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from miaotui.answers.flight import Flight
from miaotui.errors import SlowReaderError


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
        self.flight: Flight[Parts, int] = Flight(self._start, self._land, self._go, lambda part: part)

    async def _start(self) -> Parts:
        await self.may_start.wait()
        return self.parts

    async def _land(self, source: Parts) -> None:
        assert self.num_gone == 0
        self.landed = True

    def _go(self) -> None:
        self.num_gone += 1

    async def read(self) -> list[int]:
        _, reader = await self.flight.join()
        return [part async for part in reader]


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
        _, later = await it.flight.join()
        assert [await anext(later), await anext(later)] == [1, 2]
        for end in (3, None):
            it.parts.queue.put_nowait(end)
        assert await first == [1, 2, 3]
        assert [part async for part in later] == [3]
        assert (it.landed, it.num_gone, it.parts.is_closed) == (True, 1, True)

    run(work)


def test_the_source_goes_on_while_anybody_reads_and_ends_with_the_last() -> None:
    async def work(it: Fixture) -> None:
        _, first = await it.flight.join()
        _, second = await it.flight.join()
        for _ in range(2):  # closing again is harmless
            await first.aclose()
        it.parts.queue.put_nowait(1)
        assert await anext(second) == 1
        assert not it.parts.is_closed
        await second.aclose()
        assert (it.parts.is_closed, it.landed, it.num_gone) == (True, False, 1)

    run(work)


def test_a_wait_that_was_cancelled_loses_nothing() -> None:
    async def work(it: Fixture) -> None:
        _, reader = await it.flight.join()
        got = []
        for part in (1, 2, 3):
            waiting = asyncio.create_task(anext(reader))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            it.parts.queue.put_nowait(part)
            got.append(await anext(reader))
        it.parts.queue.put_nowait(None)
        assert [*got, *[part async for part in reader]] == [1, 2, 3]
        assert it.landed

    run(work)


def test_who_is_too_far_behind_is_dropped_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.answers.flight.MAX_UNREAD_BYTES", 10)

    async def work(it: Fixture) -> None:
        (_, fast), (_, slow) = await it.flight.join(), await it.flight.join()
        parts = [5, 4, 1, 9, 9]
        for number, part in enumerate(parts):
            it.parts.queue.put_nowait(part)
            assert await anext(fast) == part
            assert it.flight.num_readers == (2 if number < 3 else 1)
        _, late = await it.flight.join()
        it.parts.queue.put_nowait(10)
        assert await anext(fast) == 10
        it.parts.queue.put_nowait(None)
        with pytest.raises(SlowReaderError):
            await anext(slow)
        assert [part async for part in late] == [*parts, 10], "what was there before counts for nobody"
        assert it.landed

    run(work)


def test_where_nobody_keeps_up_the_source_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.answers.flight.MAX_UNREAD_BYTES", 10)

    async def work(it: Fixture) -> None:
        readers = [(await it.flight.join())[1] for _ in range(2)]
        for part in (6, 6, 6):
            it.parts.queue.put_nowait(part)
        while not it.parts.is_closed:
            await asyncio.sleep(0)
        assert (it.parts.queue.qsize(), it.num_gone, it.landed, it.flight.parts) == (1, 1, False, [])
        for reader in readers:
            with pytest.raises(SlowReaderError):
                await anext(reader)

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

        flight: Flight[Parts, int] = Flight(start, land, lambda: None, lambda part: part)
        results = await asyncio.gather(flight.join(), flight.join(), return_exceptions=True)
        assert [str(result) for result in results] == ["no room"] * 2

    asyncio.run(whole())
