"""Several answers read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from miaotui.engine.results import Delta

Parts = AsyncIterator[Delta]


class Merged(AsyncIterator[Delta]):
    """The parts of several answers as they come, numbered through: `num_each` completions of the first, then the next.

    A wait for the next part may be cancelled and begun anew; nothing is lost. What an answer raises is raised here, and
    ends it all. To be closed (`aclose`) before the answers are.
    """

    def __init__(self, answers: Sequence[Parts], num_each: int) -> None:
        self._num_open = len(answers)
        self._next: asyncio.Queue[Delta | Exception | None] = asyncio.Queue(maxsize=1)  # what is unread stays there
        self._readers = [
            asyncio.create_task(self._read(answer, number * num_each)) for number, answer in enumerate(answers)
        ]

    async def __anext__(self) -> Delta:
        while self._num_open:
            part = await self._next.get()
            if isinstance(part, Exception):
                raise part
            if part is not None:
                return part
            self._num_open -= 1
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Read no more."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.wait(self._readers)

    async def _read(self, answer: Parts, first: int) -> None:
        """Hand one answer's parts on, then None, or what it raised."""
        end: Exception | None = None
        try:
            async for part in answer:
                await self._next.put(replace(part, index=first + part.index))
        except Exception as error:
            end = error
        await self._next.put(end)
