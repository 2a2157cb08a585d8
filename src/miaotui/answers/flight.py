"""One computation for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from miaotui.errors import SlowReaderError

MAX_UNREAD_BYTES = 1 << 20
"""A reader who is further behind has gone away, whatever its connection says."""

P = TypeVar("P")
P_co = TypeVar("P_co", covariant=True)


class Source(AsyncIterable[P_co], Protocol[P_co]):
    """Parts of an answer as they are computed."""

    async def aclose(self) -> None:
        """Stop computing. Harmless when repeated."""


S = TypeVar("S", bound="Source[object]")


class Reader(Generic[S, P]):
    """One reader of a flight: an asynchronous iterator over all its parts, from the first on, as they come.

    A wait for the next part may be cancelled (a timeout, say) and begun anew; nothing is lost. Raises what the source
    does, and SlowReaderError where more than MAX_UNREAD_BYTES came since it joined that it has not read.
    """

    def __init__(self, flight: Flight[S, P], num_there: int) -> None:
        self._flight = flight
        self._num_there = num_there  # parts that came before it joined; they are held for those who come, too
        self._position = 0
        self._unread_bytes = 0
        self._is_dropped = False

    def __aiter__(self) -> Reader[S, P]:
        return self

    async def __anext__(self) -> P:
        while True:
            if self._is_dropped:
                raise SlowReaderError("the reader left more than 1 MiB of the answer unread; it gets no more of it.")
            if self._position < len(self._flight.parts):
                break
            if not await self._flight.grows():
                raise StopAsyncIteration
        part = self._flight.parts[self._position]
        if self._position >= self._num_there:
            self._unread_bytes -= self._flight.size_of(part)
        self._position += 1
        return part

    def keeps_up(self, num_bytes: int) -> bool:
        """Whether a part of that size may wait for it, too; if not, it is dropped. A single part always may."""
        self._is_dropped = self._unread_bytes > 0 and self._unread_bytes + num_bytes > MAX_UNREAD_BYTES
        self._unread_bytes += num_bytes
        return not self._is_dropped

    async def aclose(self) -> None:
        """Read no more; the last reader to leave has the source closed."""
        await self._flight.leave(self)


class Flight(Generic[S, P]):
    """A source that any number of readers share; each has all parts, from the first on.

    start: makes the source. landed: called with the source when it has ended by itself, before the readers learn that
    it has. gone: called when it has ended in any way, or is about to. The source is closed when the last reader
    leaves or is too far behind; a failure is every reader's. size_of: how many bytes of memory a part takes.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[S]],
        landed: Callable[[S], Awaitable[None]],
        gone: Callable[[], None],
        size_of: Callable[[P], int],
    ) -> None:
        self._start = start
        self._landed = landed
        self._gone = gone
        self.size_of = size_of
        self.parts: list[P] = []
        self._readers: set[Reader[S, P]] = set()
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self.source: S | None = None
        self._task = asyncio.create_task(self._run())

    async def join(self) -> tuple[S, Reader[S, P]]:
        """The source, once there is one, and a reader to be closed. Raises what the start did."""
        reader = Reader(self, len(self.parts))
        self._readers.add(reader)
        try:
            while self.source is None:
                if self._error is not None:
                    raise self._error
                await self._changed.wait()
        except BaseException:
            await self.leave(reader)
            raise
        return self.source, reader

    async def leave(self, reader: Reader[S, P]) -> None:
        """One reader less. Harmless when repeated."""
        self._readers.discard(reader)
        if not self._readers and not self._ended:
            self._end()
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def num_readers(self) -> int:
        """Who reads it."""
        return len(self._readers)

    async def grows(self) -> bool:
        """Wait until there may be more parts; False behind the last. Raises what the source did."""
        if self._error is not None:
            raise self._error
        if not self._ended:
            await self._changed.wait()
            return True
        return False

    async def _run(self) -> None:
        try:
            self.source = await self._start()
            self._tell()
            async for part in self.source:
                self._give(part)  # type: ignore[arg-type]  # S is a source of P, which its bound cannot say
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

    def _give(self, part: P) -> None:
        """One more part for all; who is too far behind is a reader no more. Raises SlowReaderError if that were all."""
        self.parts.append(part)
        size = self.size_of(part)
        self._readers = {reader for reader in self._readers if reader.keeps_up(size)}
        if not self._readers:
            self.parts.clear()
            raise SlowReaderError("nobody reads the answer any more; it was cancelled.")
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
