"""Parts of several answers are handed on in the order they come in, one at a time; an error is everybody's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from miaotui.engine.results import Delta
from miaotui.server.merged import Merged


async def told(parts: asyncio.Queue[str | Exception | None]) -> AsyncIterator[Delta]:
    """An answer that says what it is told to."""
    while (text := await parts.get()) is not None:
        if isinstance(text, Exception):
            raise text
        yield Delta(0, text, ())


def test_parts_come_in_their_order_and_a_cancelled_wait_loses_none() -> None:
    async def main() -> None:
        queues: list[asyncio.Queue[str | Exception | None]] = [asyncio.Queue() for _ in range(3)]
        merged = Merged([told(queue) for queue in queues], 2)
        for place, text in ((2, "a"), (0, "b"), (1, "c"), (2, "d")):
            waiting = asyncio.create_task(anext(merged))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait((waiting,))
            queues[place].put_nowait(text)
            part = await anext(merged)
            assert (part.index, part.text) == (2 * place, text)
        for queue in queues:
            queue.put_nowait(None)
        assert [part async for part in merged] == []
        await merged.aclose()

    asyncio.run(main())


def test_what_nobody_reads_stays_where_it_was() -> None:
    async def main() -> None:
        queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        for _ in range(100):
            queue.put_nowait("x")
        merged = Merged([told(queue)], 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert queue.qsize() >= 98
        await merged.aclose()

    asyncio.run(main())


def test_an_error_is_raised() -> None:
    async def main() -> None:
        queues: list[asyncio.Queue[str | Exception | None]] = [asyncio.Queue() for _ in range(2)]
        merged = Merged([told(queue) for queue in queues], 1)
        queues[1].put_nowait(ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            await anext(merged)
        await merged.aclose()

    asyncio.run(main())
