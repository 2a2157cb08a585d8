"""The way of a question: a kept answer, one under way for somebody else, a small model, or the model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.control import CacheControl
from miaotui.answers.decision import Path
from miaotui.answers.entry import computed
from miaotui.answers.flight import Flight
from miaotui.answers.question import Conversation, Question, why_not_kept
from miaotui.core import Candidate, Plan, SamplingParams
from miaotui.engine.answer import Answer, held_bytes
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.prospect import Admission, Admit
from miaotui.engine.results import Completion, Delta
from miaotui.errors import DeadlineError
from miaotui.server.ledger import Ledger
from miaotui.server.noted import Noted, decision_on
from miaotui.server.planning import Looking, Planning
from miaotui.server.reading import SHARED, KeptAnswer, Reading, SharedAnswer, WholeAnswer

if TYPE_CHECKING:
    from miaotui.server.cascading import Cascading

Tried = Sequence[Candidate]
Note = Callable[..., None]
"""Takes a completion, or None and what went wrong."""
Name = tuple[bytes, bool, int]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, as every protocol asks it. deadline_ms: when its answer is to be there, from begun_s on."""

    conversation: Conversation
    params: SamplingParams
    tenant: str
    request_id: str
    priority: int = 0
    tools: Sequence[Mapping[str, Any]] = ()
    template_options: Mapping[str, Any] = field(default_factory=dict)
    control: CacheControl = field(default_factory=CacheControl)
    deadline_ms: float | None = None
    begun_s: float = field(default_factory=time.monotonic)

    @property
    def ends_s(self) -> float | None:
        """When its deadline is, in monotonic seconds."""
        return None if self.deadline_ms is None else self.begun_s + self.deadline_ms / 1e3


class Asker:
    """Takes each question the cheapest way that leads to its answer, and writes down which that was.

    model: names all that the model's answers depend on beside the request. cache: None sends everything to the model.
    planning: chooses and predicts; None: every question goes the same way, and none may have a deadline.
    cascading: asks a small model first, where there is one.
    """

    def __init__(
        self,
        llm: AsyncLLM,
        cache: AnswerCache | None,
        model: str,
        ledger: Ledger,
        planning: Planning | None = None,
        cascading: Cascading | None = None,
    ) -> None:
        self.cache = cache
        self._llm = llm
        self._model = model
        self._ledger = ledger
        self._planning = planning
        self._cascading = cascading
        self._flights: dict[Name, Flight[Reading, Delta]] = {}
        self._numbers = itertools.count(1)

    async def ask(self, ask: Ask) -> Reading:
        """An answer. Raises what `AsyncLLM.stream` does, and DeadlineError for one that would not be there in time."""
        if self.cache is None:
            return await self._start(ask)
        start_s = time.perf_counter()
        options = dict(ask.template_options) | self._llm.llm.clock_options(ask.conversation)
        question = Question(ask.tenant, self._model, ask.conversation, ask.params, ask.tools, options)
        looking = self._look(ask)
        found = await self._look_up(ask, question, looking)
        took_s = time.perf_counter() - start_s
        if isinstance(found, Found):
            plan: Plan | None = None
            if self._planning is not None and looking is not None:
                plan = self._planning.found(looking, ask.tenant, found, took_s)
            kept = KeptAnswer(found, took_s, plan)
            self._note(ask, question, found, found.path, took_s, kept.completion)
            self._ledger.found(kept.completion)
            return kept
        tried: Tried = ()
        if self._planning is not None and looking is not None:
            tried = self._planning.missed(looking, ask.tenant, found, took_s)
        if found.keep:
            return await self._fly(ask, question, found, took_s, tried)
        note = partial(self._note, ask, question, found, "model", took_s)
        return await self._noted(partial(self._start, ask, tried), note)

    def _look(self, ask: Ask) -> Looking | None:
        """How to look for a kept answer; None where nobody plans that."""
        if self._planning is None:
            return None
        is_kept = why_not_kept(ask.params, ask.tools) is None
        return self._planning.look(ask, self._llm.load, is_kept=is_kept)

    async def _look_up(self, ask: Ask, question: Question, looking: Looking | None) -> Found | Missed:
        if self.cache is None:
            raise RuntimeError("there is no cache to look into")
        return await self.cache.look_up(question, ask.control if looking is None else looking.control)

    async def _noted(self, start: Callable[[], Awaitable[Reading]], note: Note) -> Noted:
        """An answer whose end is written down, even if it has no beginning."""
        try:
            return Noted(await start(), note)
        except BaseException as error:
            note(None, error)
            raise

    async def _start(self, ask: Ask, tried: Tried = ()) -> Reading:
        """Ask a small model or the served one."""
        if self._cascading is None:
            return await self._ask_model(ask, tried)
        return await self._cascading.start(ask, tried, partial(self._ask_model, ask))

    async def _ask_model(self, ask: Ask, tried: Tried, change: Callable[[Admit], Admit] | None = None) -> Answer:
        """change: what to make of how the request is admitted."""
        admit: Admit | None = None if self._planning is None else self._planning.admit(ask, tried)
        if change is not None:
            admit = change(admit or (lambda prospect: Admission()))
        planned: dict[str, Any] = {} if admit is None else {"admit": admit}
        return await self._llm.stream(
            ask.conversation,
            ask.params,
            tools=ask.tools or None,
            template_options=ask.template_options or None,
            tenant=ask.tenant,
            priority=ask.priority,
            keep=ask.control.mode != "no-store",
            **planned,
        )

    async def _fly(self, ask: Ask, question: Question, missed: Missed, took_s: float, tried: Tried) -> Noted:
        """Join the computation that is under way for this question, or begin one.

        Who asks for a new answer joins those who do so too: others may be waiting for one that is kept elsewhere. Who
        has a deadline flies alone: it must neither wait for others nor end what they read.
        """
        alone = next(self._numbers) if ask.deadline_ms is not None else 0
        name = (question.work, ask.control.mode == "refresh", alone)
        flight = self._flights.get(name)
        leads = flight is None
        if flight is None:
            flight = self._flights[name] = Flight(
                partial(self._lead, ask, question, tried),
                partial(self._keep, ask, question, missed),
                partial(self._landed, name, None if alone else question),
                held_bytes,
            )
        if not leads:
            self._ledger.shared()
        path: Path = "model" if leads else "shared"
        seen = missed if leads else replace(missed, why=SHARED)
        return await self._noted(
            partial(self._join, flight, leads=leads), partial(self._note, ask, question, seen, path, took_s)
        )

    async def _join(self, flight: Flight[Reading, Delta], *, leads: bool) -> SharedAnswer:
        return SharedAnswer(*await flight.join(), leads=leads)

    async def _lead(self, ask: Ask, question: Question, tried: Tried) -> Reading:
        """Ask the model, unless another process does so already: then what that one keeps."""
        if self.cache is not None and ask.deadline_ms is None:
            start_s = time.perf_counter()
            found = await self.cache.lead(question, ask.control)
            if found is not None:
                kept = KeptAnswer(found, time.perf_counter() - start_s)
                self._ledger.found(kept.completion)
                return kept
        return await self._start(ask, tried)

    def _landed(self, name: Name, question: Question | None) -> None:
        """Whoever asks it now begins anew. question: the one that others may be waiting for, if there is any."""
        del self._flights[name]
        if self.cache is not None and question is not None:
            self.cache.led(question)

    async def _keep(self, ask: Ask, question: Question, missed: Missed, answer: Reading) -> None:
        """Keep an answer that the model has completed, neither one that was kept nor a small model's."""
        completion = answer.completion
        if self.cache is None or completion is None or isinstance(answer, WholeAnswer):
            return
        if completion.finish_reason != "stop":
            return
        entry = computed(
            question,
            completion.text,
            completion.receipt,
            tags=ask.control.tags,
            request_id=ask.request_id,
            prompt_tail=answer.prompt_tail,
            stop_reason=completion.stop_reason,
            vector=missed.vector,
        )
        await self.cache.keep(entry)
        self.cache.compare_soon(question, missed, completion.text)

    def _note(
        self,
        ask: Ask,
        question: Question,
        seen: Found | Missed,
        path: Path,
        took_s: float,
        completion: Completion | None,
        error: BaseException | None = None,
    ) -> None:
        """Write down which way a question took; one that is not to be stored leaves nothing behind."""
        if self.cache is None or ask.control.mode == "no-store":
            return
        receipt = None if completion is None else completion.receipt
        decision = decision_on(ask.request_id, question, seen, path, receipt, took_s)
        if isinstance(error, DeadlineError):
            decision = replace(decision, why=f"refused: {error}")
        self.cache.note(decision)
