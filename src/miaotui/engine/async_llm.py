"""`AsyncLLM`: one model for many callers of an event loop, all served by the same steps."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Row
from contextlib import aclosing
from types import TracebackType
from typing import Any

from miaotui.core import SamplingParams
from miaotui.engine.engine import Engine
from miaotui.engine.engine_thread import EngineThread, Updates
from miaotui.engine.grammar import TokenGrammar
from miaotui.engine.llm import LLM, Prompt, resolve_params
from miaotui.engine.messages import Message
from miaotui.engine.results import Completion, Delta
from miaotui.engine.sequence import Sequence
from miaotui.engine.stream import completion_of
from miaotui.errors import EngineStoppedError, SlowReaderError

MAX_BUFFERED_CHARACTERS = 1 << 20
"""A reader who leaves more than this unread has gone away, whatever its connection says."""


class Answer:
    """One request under way: an asynchronous iterator over its parts.

    To be closed (`aclose`, or `contextlib.aclosing`) where it is left early: that frees its memory within a step.
    """

    def __init__(self, llm: AsyncLLM, sequences: list[Sequence]) -> None:
        self._llm = llm
        self._sequences = sequences
        self._parts: deque[Delta] = deque()
        self._num_open = len(sequences)  # whose last part has not arrived
        self._unread = 0
        self._arrived = asyncio.Event()
        self._error: Exception | None = None

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Delta:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._num_open == 0:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        part = self._parts.popleft()
        self._unread -= len(part.text)
        return part

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._sequences[0].num_prompt_tokens

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended, however it ended; None while it goes on."""
        return completion_of(self._sequences) if self._num_open == 0 else None

    async def whole(self) -> Completion:
        """The whole answer, once it has ended; parts not fetched yet are skipped."""
        async for _ in self:
            pass
        return completion_of(self._sequences)

    async def aclose(self) -> None:
        """Cancel what has not finished. Harmless when repeated."""
        self._llm._forget(self._sequences)

    def _push(self, part: Delta) -> None:
        self._parts.append(part)
        self._num_open -= part.finish_reason is not None
        self._unread += len(part.text)
        if self._unread > MAX_BUFFERED_CHARACTERS and self._error is None:
            self._parts.clear()
            self._fail(SlowReaderError("the reader left more than 1 MiB of the answer unread; it was cancelled."))
            self._llm._forget(self._sequences)
        self._arrived.set()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._arrived.set()


class AsyncLLM:
    """An `LLM` whose steps run in a thread of their own, for callers on one event loop.

    Takes the arguments of `LLM`, or an `LLM` that nobody else uses from then on. An asynchronous context manager; to be
    created and used on a running loop. `tenant` names who asks: tenants take turns and share no cached prefixes. Lower
    priorities go first.
    """

    def __init__(self, model: str | os.PathLike[str] | LLM, **options: Any) -> None:
        self.llm = model if isinstance(model, LLM) else LLM(model, **options)
        self._scheduler = self.llm.loaded.engine.scheduler
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, Answer] = {}  # by request
        self._starting: set[asyncio.Future[Answer]] = set()
        self._stopped: Exception | None = None
        self._thread = EngineThread(
            self.llm.loaded.engine,
            lambda updates: self._post(self._deliver, updates),
            lambda error: self._post(self._die, error),
        )

    async def stream(
        self,
        prompt: Prompt | Row[Message],
        params: SamplingParams | None = None,
        *,
        tools: Row[Mapping[str, Any]] | None = None,
        tenant: str = "",
        priority: int = 0,
        **changes: Any,
    ) -> Answer:
        """Start an answer; raises what `LLM.stream` does, EngineStoppedError where nothing runs any more."""
        resolved = resolve_params(params, changes)
        prompt_ids, grammar = await asyncio.to_thread(self._prepare, prompt, tools, resolved)  # may take their time
        if self._stopped is not None:
            raise self._stopped
        started: asyncio.Future[Answer] = self._loop.create_future()

        def add(engine: Engine) -> None:
            try:
                sequences = engine.add(prompt_ids, resolved, grammar=grammar, tenant=tenant, priority=priority)
            except Exception as error:
                self._post(_reject, started, error)
            else:
                self._post(self._start, started, sequences)

        self._starting.add(started)
        try:
            self._thread.submit(add)
            return await started
        except asyncio.CancelledError:
            # It may have started, and the caller been cancelled before learning so.
            if not started.cancelled() and started.exception() is None:
                self._forget(started.result()._sequences)
            raise
        finally:
            self._starting.discard(started)

    async def generate(
        self, prompt: Prompt | Row[Message], params: SamplingParams | None = None, **options: Any
    ) -> Completion:
        """As `stream`, but the whole answer at once."""
        async with aclosing(await self.stream(prompt, params, **options)) as answer:
            return await answer.whole()

    @property
    def num_running(self) -> int:
        """Sequences that take part in steps."""
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for a place, and requests that are just being added."""
        return len(self._scheduler.waiting) + len(self._starting)

    @property
    def num_preemptions(self) -> int:
        """How often a sequence was sent back for want of pages."""
        return self._scheduler.num_preemptions

    @property
    def stalled_s(self) -> float:
        """For how long the step under way has been going on; 0 while there is nothing to do."""
        return self._thread.stalled_s

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._stopped is None and self._thread.is_alive

    async def aclose(self) -> None:
        """Cancel everything, end the thread and free the memory. Harmless when repeated."""
        await asyncio.to_thread(self._thread.close)
        self._die(EngineStoppedError("the engine was closed."))
        self.llm.close()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _prepare(self, prompt: Any, tools: Any, params: SamplingParams) -> tuple[list[int], TokenGrammar | None]:
        return self.llm.encode_prompt(prompt, tools=tools), self.llm.compile_grammar(params)

    def _post(self, function: Any, *arguments: Any) -> None:
        """Have something done on the loop, from the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _start(self, started: asyncio.Future[Answer], sequences: list[Sequence]) -> None:
        answer = Answer(self, sequences)
        self._answers[sequences[0].request.id] = answer
        if started.done():  # nobody waits for it any more
            self._forget(sequences)
        else:
            started.set_result(answer)

    def _deliver(self, updates: Updates) -> None:
        for sequence, part in updates:
            answer = self._answers.get(sequence.request.id)
            if answer is not None:
                answer._push(part)
                if answer._num_open == 0:  # nothing is left that could be cancelled
                    self._answers.pop(sequence.request.id, None)

    def _forget(self, sequences: list[Sequence]) -> None:
        """Nobody reads these any more: cancel what has not finished."""
        if self._answers.pop(sequences[0].request.id, None) is not None:
            self._thread.submit(lambda engine: engine.cancel(sequences))

    def _die(self, error: BaseException) -> None:
        if self._stopped is None:
            self._stopped = EngineStoppedError(f"the engine has stopped: {error}")
        for answer in self._answers.values():
            answer._fail(self._stopped)
        for started in self._starting:
            _reject(started, self._stopped)


def _reject(started: asyncio.Future[Any], error: Exception) -> None:
    if not started.done():
        started.set_exception(error)
