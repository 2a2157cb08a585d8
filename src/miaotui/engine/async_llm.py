"""`AsyncLLM`: one model for many callers of an event loop, all served by the same steps."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Row
from contextlib import aclosing, contextmanager
from contextvars import copy_context
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import Any

from miaotui.core import SamplingParams
from miaotui.engine.answer import Answer, Tell
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.encoding_line import EncodingLines, num_characters
from miaotui.engine.engine import Engine
from miaotui.engine.engine_thread import EngineThread, Step
from miaotui.engine.grammar import TokenGrammar
from miaotui.engine.heartbeat import Heartbeat
from miaotui.engine.llm import LLM, Prompt, resolve_params
from miaotui.engine.messages import Message
from miaotui.engine.prospect import Admit, Load
from miaotui.engine.results import Completion
from miaotui.engine.scheduler import Scheduler
from miaotui.engine.sequence import Sequence
from miaotui.engine.step_turns import StepTurns
from miaotui.engine.stream import completion_of
from miaotui.engine.tools import check_ends
from miaotui.engine.watcher import Watcher
from miaotui.errors import CapacityError, EngineStoppedError, OverloadedError

log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""How long `aclose` waits for the step under way; a thread that hangs is left behind."""


class AsyncLLM:
    """An `LLM` whose steps run in a thread of their own, for callers on one event loop.

    Takes the arguments of `LLM` (but tunes in its pauses), or an `LLM` that nobody else uses from then on. An
    asynchronous context manager; to be created and used on a running loop. `tenant` names who asks: tenants take turns
    and share no cached prefixes. Lower priorities go first. encoding: where texts become tokens, tenant by tenant.
    turns: shared by several models of one process, whose steps would be in each other's way.

    max_waiting: so many sequences may wait for a place, None: any number; more are refused with OverloadedError.
    max_open_per_tenant: the same for one tenant's that wait or run.
    """

    max_waiting: int | None = None
    max_open_per_tenant: int | None = None

    def __init__(self, model: str | os.PathLike[str] | LLM, *, turns: StepTurns | None = None, **options: Any) -> None:
        self.llm = model if isinstance(model, LLM) else LLM(model, **{"tune_in_pauses": True, **options})
        self.watcher = Watcher()
        self.heartbeat = Heartbeat()
        self.encoding = EncodingLines()
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._engine = self.llm.loaded.engine
        self._answers: dict[int, Answer] = {}  # by request
        self._leaving: set[Answer] = set()  # that are being cancelled
        self._starting: dict[asyncio.Future[Answer], Tell] = {}
        self._num_preparing = 0
        self._open: Counter[str] = Counter()  # sequences by tenant
        self._stopped: Exception | None = None
        self._thread = self._new_thread()

    def _new_thread(self) -> EngineThread:
        """A thread for the engine; what comes of it once it has been replaced is dropped."""
        engine = self._engine
        self.heartbeat.rest()

        def deliver(step: Step) -> None:
            self._post(self._deliver, engine, step)

        def died(error: BaseException) -> None:
            log.critical("the engine's thread has ended", exc_info=error)
            self._post(self._die, engine, EngineStoppedError(f"the engine has stopped: {error}"))

        return EngineThread(engine, self.heartbeat, deliver, died, self._turns)

    async def stream(
        self,
        prompt: Prompt | Row[Message],
        params: SamplingParams | None = None,
        *,
        tools: Row[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        tenant: str = "",
        priority: int = 0,
        keep: bool = True,
        admit: Admit | None = None,
        **changes: Any,
    ) -> Answer:
        """Start an answer; raises what `LLM.stream` does, EngineStoppedError where nothing runs any more.

        template_options: see `LLM.encode_chat`. keep: see `Engine.add`.
        admit: see `Engine.add`; called on the engine's thread, and what it raises is raised here.
        """
        resolved = resolve_params(params, changes)
        check_ends(resolved, tools)

        def prepare() -> tuple[list[int], TokenGrammar | None]:
            ids = self.llm.encode_prompt(prompt, tools=tools, template_options=template_options)
            return ids, self.llm.compile_grammar(resolved)

        with self._waiting_for(resolved.n, tenant):
            tell = self._teller(resolved.n, tenant)
            try:
                num_chars = num_characters((prompt, tools, template_options))
                prompt_ids, grammar = await self.encoding.run(prepare, num_chars, tenant)  # both may take their time
                if self._stopped is not None:
                    raise self._stopped
            except BaseException as error:
                tell(None, error if isinstance(error, Exception) else None)
                raise
            return await self._add(
                tell,
                lambda engine: engine.add(
                    prompt_ids,
                    resolved,
                    grammar=grammar,
                    tenant=tenant,
                    priority=priority,
                    keep=keep,
                    admit=admit,
                ),
            )

    @contextmanager
    def _waiting_for(self, num_sequences: int, tenant: str) -> Iterator[None]:
        """Count so many as waiting meanwhile. Raises OverloadedError as `check_room` does."""
        self.check_room(num_sequences, tenant)
        self._num_preparing += num_sequences
        try:
            yield
        finally:
            self._num_preparing -= num_sequences

    def check_places(self, num_sequences: int) -> None:
        """Raise CapacityError for more sequences of one request than could ever be here."""
        waiting, own = self.max_waiting, self.max_open_per_tenant
        together = num_sequences if waiting is None else self._scheduler.limits.max_sequences + waiting
        room = together if own is None else min(together, own)
        if num_sequences > room:
            raise CapacityError(f"{num_sequences} answers are asked for, there is room for {room}; ask for fewer.")

    def check_room(self, num_sequences: int, tenant: str) -> None:
        """Raise OverloadedError unless so many more sequences of a tenant may wait, CapacityError as `check_places`."""
        self.check_places(num_sequences)
        most = self.max_open_per_tenant
        if most is not None and self._open[tenant] + num_sequences > most:
            raise OverloadedError(f"{self._open[tenant]} requests of yours are open already; let some of them end.")
        if self.max_waiting is not None:
            # One counts twice who has begun without being told of here, the other the ended ones of several that go on.
            num_open = min(self._scheduler.num_unfinished + self._num_preparing, self._open.total())
            if num_open + num_sequences > self._scheduler.limits.max_sequences + self.max_waiting:
                raise OverloadedError(f"{self.num_waiting} requests wait already; try again in a moment.")

    async def _add(self, tell: Tell, make: Callable[[Engine], list[Sequence]]) -> Answer:
        """Have the engine's thread add a request, and wait until it has."""
        started: asyncio.Future[Answer] = self._loop.create_future()

        def add(engine: Engine) -> None:
            try:
                sequences = make(engine)
            except Exception as error:
                self._post(self._reject, started, error)
            else:
                self._post(self._start, started, sequences)

        self._starting[started] = tell
        self._thread.submit(add)
        try:
            return await started
        except asyncio.CancelledError:
            # It may have started, and the caller been cancelled before learning so.
            if not started.cancelled() and started.exception() is None:
                self._forget(started.result())
            raise

    async def generate(
        self, prompt: Prompt | Row[Message], params: SamplingParams | None = None, **options: Any
    ) -> Completion:
        """As `stream`, but the whole answer at once."""
        async with aclosing(await self.stream(prompt, params, **options)) as answer:
            return await answer.whole()

    def fail(self, error: Exception) -> None:
        """End every answer with that error, refuse new ones, and end the thread after the step under way."""
        self._die(self._engine, error)
        self._thread.close(0)

    def restart(self) -> None:
        """Go on after the thread has ended: with the same weights, empty pages, and nobody waiting.

        Raises EngineStoppedError while a step is still under way.
        """
        if not self._thread.close(1.0):
            raise EngineStoppedError("a step is still under way.")
        self._die(self._engine, EngineStoppedError("the engine starts anew."))
        self._engine = _emptied(self._engine)
        self.llm._loaded = replace(self.llm.loaded, engine=self._engine)
        self._stopped = None
        self._thread = self._new_thread()

    @property
    def num_running(self) -> int:
        """Sequences that take part in steps."""
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for a place, or for their prompts to be encoded."""
        return len(self._scheduler.waiting) + self._num_preparing

    @property
    def load(self) -> Load:
        """What the engine has to do, as far as that can be told from another thread while it steps."""
        return self._engine.load

    @property
    def num_preemptions(self) -> int:
        """How often a sequence was sent back for want of pages, or because it was another one's turn."""
        return self._scheduler.num_preemptions

    @property
    def pool(self) -> BlockPool:
        """The pages; only to be counted from here."""
        return self._scheduler.pool

    @property
    def stalled_s(self) -> float:
        """For how long the step under way has been going on; 0 while there is nothing to do."""
        return self.heartbeat.stalled_s

    @property
    def expected_s(self) -> float | None:
        """How long the step under way takes at most if nothing is wrong; None where nothing is known yet."""
        return self.heartbeat.expected_s(self._engine.slices)

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._stopped is None and self._thread.is_alive

    @property
    def has_ended(self) -> bool:
        """Whether its thread is gone, so that `restart` may be called."""
        return not self._thread.is_alive

    async def aclose(self) -> None:
        """Cancel everything, end the thread and free the memory. Harmless when repeated.

        A step that hangs is waited for no longer than some seconds; its memory stays taken then.
        """
        self.encoding.close()
        ended = await asyncio.to_thread(self._thread.close, CLOSE_S)
        self._die(self._engine, EngineStoppedError("the engine was closed."))
        if ended:
            await asyncio.to_thread(self.llm.close)  # which may have pages to keep

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _post(self, function: Any, *arguments: Any) -> None:
        """Have something done on the loop, from the engine's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    @property
    def _scheduler(self) -> Scheduler:
        return self._engine.scheduler

    def _teller(self, num_sequences: int, tenant: str) -> Tell:
        """Announces a request to the watcher; what is returned announces its end, as if from here. Called once."""
        self.watcher.asked()
        self._open[tenant] += num_sequences
        context = copy_context()

        def tell(completion: Completion | None, error: Exception | None) -> None:
            self._open[tenant] -= num_sequences
            if not self._open[tenant]:
                del self._open[tenant]
            context.run(self.watcher.ended, completion, error)

        return tell

    def _start(self, started: asyncio.Future[Answer], sequences: list[Sequence]) -> None:
        tell = self._starting.pop(started, None)
        if tell is None:  # all have been told that the engine has ended
            return
        answer = Answer(sequences, tell, self._forget)
        self._answers[sequences[0].request.id] = answer
        if started.done():  # nobody waits for it any more
            self._forget(answer)
        else:
            started.set_result(answer)

    def _reject(self, started: asyncio.Future[Answer], error: Exception) -> None:
        tell = self._starting.pop(started, None)
        if tell is not None:
            if not started.done():
                started.set_exception(error)
            tell(None, error)

    def _deliver(self, engine: Engine, step: Step) -> None:
        if engine is not self._engine:
            return
        if step.num_sequences:
            self.watcher.stepped(step.seconds, step.num_sequences)
            self.watcher.worked(step.work, step.seconds)
        for sequence, part in step.updates:
            answer = self._answers.get(sequence.request.id)
            if answer is None:
                continue
            if (gap_s := answer._gap(part, step.end_s)) is not None:
                self.watcher.gap(gap_s)
            if sequence.error is not None:
                if part.token_ids:  # said before, in the same step
                    answer._keep(replace(part, finish_reason=None))
                answer._fail(sequence.error)  # whoever reads closes it then
                continue
            answer._push(part)
            if answer._num_open == 0:  # nothing is left that could be cancelled
                self._answers.pop(sequence.request.id, None)
                answer._end(completion_of(answer._sequences))

    def _forget(self, answer: Answer) -> None:
        """Nobody reads it any more: cancel what has not finished."""
        sequences = answer._sequences
        if self._answers.pop(sequences[0].request.id, None) is None:
            return

        def cancel(engine: Engine) -> None:
            engine.cancel(sequences)
            self._post(self._left, answer)

        self._leaving.add(answer)
        self._thread.submit(cancel)

    def _left(self, answer: Answer) -> None:
        self._leaving.discard(answer)
        answer._end(completion_of(answer._sequences))

    def _die(self, engine: Engine, error: Exception) -> None:
        """Everybody who waits for this engine learns that it has ended."""
        if engine is not self._engine:
            return
        if self._stopped is None:
            self._stopped = error
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer._fail(self._stopped)
        for answer in (*answers.values(), *self._leaving):
            answer._end(None)
        self._leaving.clear()
        for started in list(self._starting):
            self._reject(started, self._stopped)


def _emptied(engine: Engine) -> Engine:
    """An engine over the same program and pages, with nothing in them and nobody waiting."""
    if engine.scheduler.drafter is not None:
        for sequence in engine.scheduler.unfinished():
            engine.scheduler.drafter.ended(sequence)
    fresh = copy(engine)
    fresh.scheduler, fresh.slices, fresh._timed = engine.scheduler.emptied(), [], []
    fresh.ahead = None if engine.ahead is None else engine.ahead.of(fresh.scheduler.pool)
    return fresh
