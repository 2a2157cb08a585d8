"""One computation for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class Source(AsyncIterable[P_co], Protocol[P_co]):
    """Parts of an answer as they are computed."""

    async def aclose(self) -> None:
        """Stop computing. Harmless when repeated."""


S = TypeVar("S", bound="Source[object]")


class Flight(Generic[S, P]):
    """A source that any number of readers share; each has all parts, from the first on.

    start: makes the source. landed: called with the source when it has ended by itself, before the readers learn that
    it has. gone: called when it has ended in any way, or is about to. The source is closed when the last reader
    leaves; a failure is every reader's.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[S]],
        landed: Callable[[S], Awaitable[None]],
        gone: Callable[[], None],
    ) -> None:
        self._start = start
        self._landed = landed
        self._gone = gone
        self._parts: list[P] = []
        self._num_readers = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self.source: S | None = None
        self._task = asyncio.create_task(self._run())

    async def join(self) -> S:
        """Become a reader, once there is a source. Raises what its start did. To be followed by one `leave`."""
        self._num_readers += 1
        try:
            while self.source is None:
                if self._error is not None:
                    raise self._error
                await self._changed.wait()
        except BaseException:
            await self.leave()
            raise
        return self.source

    async def leave(self) -> None:
        """Read no more."""
        self._num_readers -= 1
        if self._num_readers == 0 and not self._ended:
            self._end()
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def parts(self) -> AsyncIterator[P]:
        """All parts, as they come. Raises what the source does."""
        position = 0
        while True:
            while position < len(self._parts):
                position += 1
                yield self._parts[position - 1]
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            await self._changed.wait()

    async def _run(self) -> None:
        try:
            self.source = await self._start()
            self._tell()
            async for part in self.source:
                self._parts.append(part)  # type: ignore[arg-type]  # S is a source of P, which its bound cannot say
                self._tell()
            await self._landed(self.source)
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._end()
            if self.source is not None:
                await self.source.aclose()
            self._tell()

    def _end(self) -> None:
        """Nobody joins any more: whoever comes now begins anew."""
        if not self._ended:
            self._ended = True
            self._gone()

    def _tell(self) -> None:
        """Wake all readers; each then looks for itself."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
