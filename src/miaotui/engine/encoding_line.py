"""Texts become tokens in threads of their own, in turns: nobody's texts hold everybody else's up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from miaotui.errors import EngineStoppedError, InvalidRequestError, OverloadedError
from miaotui.formats.chat_template import MAX_INPUT_NODES

T = TypeVar("T")

LONG_TEXT_CHARS = 16_384
"""Longer texts, which take more than some tens of milliseconds, have a line of their own."""
NUM_SHORT_THREADS = 2


class EncodingLines:
    """Two lines of work on texts, one for short and one for long ones, each with threads of its own.

    Within a line tenants take turns. max_waiting: so many may wait in a line, None: any number. For use on one loop.
    """

    max_waiting: int | None = None

    def __init__(self) -> None:
        self._short = _Line("short", NUM_SHORT_THREADS)
        self._long = _Line("long", 1)

    async def run(self, work: Callable[[], T], num_chars: int, tenant: str) -> T:
        """Do the work, which reads so many characters, when it is its turn; cancelled before, it is not done.

        Raises OverloadedError where too much waits already, EngineStoppedError after `close`.
        """
        line = self._short if num_chars <= LONG_TEXT_CHARS else self._long
        await line.wait_for_turn(tenant, self.max_waiting)
        return await line.work(work)

    def close(self) -> None:
        """Begin nothing any more; what is under way cannot be stopped. Harmless when repeated."""
        self._short.close()
        self._long.close()


class _Line:
    """Threads, and who waits for one of them."""

    def __init__(self, name: str, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads, f"miaotui-{name}-texts")
        self._num_free = num_threads
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by tenant; whose turn it is comes first

    async def wait_for_turn(self, tenant: str, max_waiting: int | None) -> None:
        """Return once a thread is kept for the caller, who has to `work` then. Raises OverloadedError."""
        if self._num_free:
            self._num_free -= 1
            return
        if max_waiting is not None and sum(map(len, self._waiting.values())) >= max_waiting:
            self._make_room(tenant)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()  # the turn had come, and the caller been cancelled before learning so
            else:
                self._leave(tenant, turn)
            raise

    async def work(self, work: Callable[[], T]) -> T:
        """Do it in the thread that is kept for the caller; the next one's turn comes when the thread has done it."""
        loop = asyncio.get_running_loop()

        def done(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._pass_on)

        try:
            future = self._threads.submit(copy_context().run, work)
        except RuntimeError:
            self._pass_on()
            raise EngineStoppedError("the engine was closed.") from None
        future.add_done_callback(done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _pass_on(self) -> None:
        """A thread is free: it is kept for the next tenant's first, who then comes behind all other tenants."""
        while self._waiting:
            tenant = next(iter(self._waiting))
            turns = self._waiting.pop(tenant)
            turn = turns.popleft()
            if turns:
                self._waiting[tenant] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._num_free += 1

    def _make_room(self, tenant: str) -> None:
        """Send the last one of whoever has most in the line away, unless that is the newcomer."""
        error = OverloadedError("too many texts wait to be read already; try again in a moment.")
        own = len(self._waiting.get(tenant, ()))
        most = max(self._waiting, key=lambda name: len(self._waiting[name]), default=tenant)
        if most == tenant or len(self._waiting[most]) <= own + 1:
            raise error
        last = self._waiting[most].pop()
        if not last.done():
            last.set_exception(error)

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(tenant, deque())
        with suppress(ValueError):  # it has been sent away, or passed over
            turns.remove(turn)
        if not turns:
            self._waiting.pop(tenant, None)


def num_characters(value: object) -> int:
    """Of all texts in a prompt, a conversation or what else comes with it; token ids are none.

    Raises InvalidRequestError beyond MAX_INPUT_NODES values, which no chat template takes: counting takes a while, too.
    """
    count, num_seen, left = 0, 0, [value]
    while left:
        num_seen += 1
        if num_seen > MAX_INPUT_NODES:
            raise InvalidRequestError(f"messages must hold, with tools, at most {MAX_INPUT_NODES} values; send less.")
        one = left.pop()
        if isinstance(one, str):
            count += len(one)
        elif isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list | tuple) and one and not isinstance(one[0], int):
            left += one
    return count
