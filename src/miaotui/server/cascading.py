"""A small model beside the one that is served, asked first where a gate was calibrated for just that."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from miaotui.adaptive.cascade import Asking, Gate
from miaotui.adaptive.cascade.answer import Answer
from miaotui.adaptive.cascade.asking import Asked, answering
from miaotui.adaptive.cascade.cascade import explained
from miaotui.adaptive.cascade.signals import LEAST, find_signal, measuring
from miaotui.adaptive.cascade.vocabulary import same_vocabulary
from miaotui.adaptive.cascade.work import Asks, Work, go_on
from miaotui.adaptive.drafters.given import GivenDrafter
from miaotui.core import Candidate, Plan, SamplingParams, Stage
from miaotui.engine.answer import PROMPT_TAIL
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.encoding_line import num_characters
from miaotui.engine.messages import Message, plain_messages
from miaotui.engine.prospect import Admission, Admit, Prospect
from miaotui.engine.results import Completion, Delta
from miaotui.errors import MiaotuiError
from miaotui.server.ledger import Ledger
from miaotui.server.noted import Around
from miaotui.server.planning import Planning, SmallCosts
from miaotui.server.reading import Reading, WholeAnswer

if TYPE_CHECKING:
    from miaotui.server.asking import Ask

T = TypeVar("T")
log = logging.getLogger(__name__)
NOT_SURE, FAILED = "tried: not sure enough", "tried: it could not answer"
Change = Callable[[Admit], Admit]
AskLarge = Callable[[Sequence[Candidate], Change], Awaitable[Reading]]
"""Asks the served model; takes what was tried before it, and what to make of how its request is admitted."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What the small model said to what it was asked, how sure it was, and whether that suffices."""

    asked: Asked
    answer: Answer
    stage: Stage
    suffices: bool


class Cascading:
    """Asks the small model where a request is of the kind that the gate was calibrated for, and the plan says so.

    That is: one message of a user, behind the gate's instruction; temperature 0, no tools, and nothing else that
    changes what is said; the gate's choices and no others (`structured_outputs`), or none, and then at least as many
    tokens as the gate's answers had.

    What the small model says is shown when it is whole and the gate has let it pass. Otherwise the served model is
    asked as if nothing had been tried, with that as a draft where both have one vocabulary. Errors of the small model
    are nobody's: the served one answers.

    Raises GateError for a gate that was calibrated for others, or lets nothing pass.
    """

    def __init__(
        self, small: AsyncLLM, large: AsyncLLM, gate: Gate, planning: Planning, costs: SmallCosts, ledger: Ledger
    ) -> None:
        gate.check([small.llm, large.llm])
        gate.check_use()
        self._small, self._large, self._gate = small, large, gate
        self._planning, self._costs, self._ledger = planning, costs, ledger
        self._signal = find_signal(gate.signal)
        lengths = [len(small.llm.tokenizer.encode(text, add_special=False)) for text in gate.asking.choices]
        self._longest_choice = max(lengths, default=0) + 1  # and the end of the turn
        drafter = large.llm.loaded.engine.scheduler.drafter
        self._drafter: GivenDrafter | None = None
        if isinstance(drafter, GivenDrafter) and not lengths and same_vocabulary(small.llm, large.llm):
            self._drafter = drafter

    async def start(self, ask: Ask, tried: Sequence[Candidate], ask_large: AskLarge) -> Reading:
        """An answer of one or the other. Raises what asking the large model raises; OverloadedError beforehand."""
        messages = self._messages_of(ask)
        if messages is None:
            return await ask_large(tried, _unchanged)
        most_tokens = 1 if self._gate.asking.choices else self._gate.asking.max_tokens
        forecast = self._costs.forecast(self._planning.prospect(ask, self._small.load, most_tokens), ask.tenant)
        plan = self._planning.cascade(ask, self._large.load, forecast, self._gate.floor)
        candidates = [one for one in plan.candidates if one.path == "cascade"]
        if plan.path != "cascade":
            return await ask_large([*tried, *candidates], _unchanged)
        self._large.check_room(1, ask.tenant)  # who would be refused then is refused now
        said = await self._ask_small(ask, messages)
        self._planning.planner.cascaded(ask.tenant, sufficed=said is not None and said.suffices)
        if said is None:
            self._ledger.metrics.cascaded("failed")
            return await ask_large([*tried, *_refused(candidates, FAILED)], _unchanged)
        self._costs.observe(forecast, said.stage.seconds, said.answer.completion.receipt, ask.tenant, most_tokens)
        if said.suffices:
            return self._small_answer(said, replace(plan, predicted_ms=forecast.ms))
        self._ledger.metrics.cascaded("asked_on")
        self._ledger.tried(said.answer.completion)
        change = await self._drafting(ask, messages, said.answer)
        answer = await ask_large([*tried, *_refused(candidates, NOT_SURE)], change)
        return LargeAnswer(answer, self._large.llm.spec.name, said.stage, forecast.ms)

    def _messages_of(self, ask: Ask) -> tuple[Message, ...] | None:
        """What to ask the small model; None for what the gate knows nothing of."""
        asking, conversation = self._gate.asking, ask.conversation
        if isinstance(conversation, str) or len(conversation) != 1 or isinstance(conversation[0], int):
            return None
        if ask.tools or ask.template_options or not self._fits(ask.params, asking):
            return None
        try:
            (message,) = plain_messages(conversation)
        except MiaotuiError:
            return None  # the large model says what is wrong with it
        if set(message) != {"role", "content"}:
            return None  # templates may write the rest down
        text = message.get("content")
        begins = isinstance(text, str) and (not asking.instruction or text.startswith(f"{asking.instruction}\n\n"))
        return (message,) if begins and message.get("role") == "user" else None

    def _fits(self, params: SamplingParams, asking: Asking) -> bool:
        wanted, most = params.structured_outputs, params.max_tokens
        given = () if wanted is None or wanted.choice is None else tuple(wanted.choice)
        if given != asking.choices or (wanted is not None and not given):
            return False
        if most is not None and most < (self._longest_choice if given else asking.max_tokens):
            return False
        free = {"max_tokens": None, "structured_outputs": None, "seed": None, "drafting": True}
        greedy = {
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
        }  # which choose among likely tokens, where the likeliest counts
        return params.changed(**free, **greedy) == SamplingParams(temperature=0.0, max_tokens=None)

    async def _ask_small(self, ask: Ask, messages: tuple[Message, ...]) -> _Said | None:
        """None where it could not answer, or not in time."""
        begin_s = time.monotonic()
        llm, asking = self._small.llm, self._gate.asking
        num_chars = num_characters(messages)
        try:
            ids = await self._small.encoding.run(lambda: llm.encode_chat(messages), num_chars, ask.tenant)
            asked = Asked(ids, "", messages)
            (answer,) = await self._done(answering(llm.tokenizer, asking, [asked]), ask, num_chars)
            (value,) = await self._done(measuring(self._signal, llm, [asked], [answer]), ask, num_chars)
        except Exception as error:  # whatever it is, the served model is well
            if not isinstance(error, MiaotuiError):
                log.error("the small model could not be asked", exc_info=error)
            return None
        seconds = time.monotonic() - begin_s
        reason, most = answer.completion.finish_reason, ask.params.max_tokens
        if ask.ends_s is not None and time.monotonic() > ask.ends_s:
            return None  # and the served model tells that it is too late
        is_whole = reason == "stop" or (reason == "length" and most == asking.max_tokens)
        shown = value if is_whole else LEAST  # it was cut, where the request's own limit would not have cut it
        stage = Stage(llm.spec.name, seconds, self._gate.signal, shown, self._gate.threshold)
        return _Said(asked, answer, stage, is_whole and self._gate.lets_pass(value))

    async def _done(self, asks: Asks[T], ask: Ask, num_chars: int) -> T:
        """Have the small model do what is to be done, as one of its requests among others."""
        done: list[Completion] | None = None
        admission = Admission(deadline_s=ask.ends_s)
        while True:
            step = await self._small.encoding.run(partial(go_on, asks, done), num_chars, ask.tenant)
            if not isinstance(step, Work):
                return step.value
            options = {"tenant": ask.tenant, "priority": ask.priority, "keep": False, "admit": lambda _: admission}
            done = [await self._small.generate(ids, step.params, **options) for ids in step.prompts]

    def _small_answer(self, said: _Said, plan: Plan) -> SmallAnswer:
        completion, stage = said.answer.completion, said.stage
        receipt = completion.receipt
        again_s = max(stage.seconds - receipt.whole_s, 0.0)  # encoding, and asking again
        receipt = replace(
            receipt,
            path="cascade",
            why=explained([stage]),
            prefill_s=receipt.prefill_s + receipt.decode_s + again_s,  # nothing is shown before
            decode_s=0.0,
            plan=plan,
            stages=(stage,),
        )
        completion = replace(completion, logprobs=None, receipt=receipt)
        self._ledger.metrics.cascaded("sufficed")
        self._ledger.cascaded(completion)
        tail = self._small.llm.tokenizer.decode(said.asked.ids[-PROMPT_TAIL:], skip_special=False)
        ids = self._large.llm.tokenizer.encode(tail, add_special=False, parse_special=True)  # whose tokens routes know
        return SmallAnswer(completion, tuple(ids))

    async def _drafting(self, ask: Ask, messages: tuple[Message, ...], answer: Answer) -> Change:
        """Have the large model check what the small one said, where it can read that."""
        drafter, tokens = self._drafter, answer.completion.token_ids
        if drafter is None or not tokens or not ask.params.drafting:
            return _unchanged
        llm, lines = self._large.llm, self._large.encoding
        try:
            ids = await lines.run(lambda: llm.encode_chat(messages), num_characters(messages), ask.tenant)
        except MiaotuiError:
            return _unchanged

        def changed(admit: Admit) -> Admit:
            def decide(prospect: Prospect) -> Admission:
                admission = admit(prospect)
                if admission.may_draft:
                    drafter.give(ids, tokens, ask.tenant)  # on the thread that drafts
                return admission

            return decide

        return changed


def _refused(candidates: Sequence[Candidate], why: str) -> list[Candidate]:
    return [replace(one, refused=why) for one in candidates]


def _unchanged(admit: Admit) -> Admit:
    return admit


class SmallAnswer(WholeAnswer):
    """One that a small model gave, and its gate let pass. It is nobody else's: what is kept is the large model's."""


class LargeAnswer(Around):
    """One of the model behind a small one that was not sure enough: the same, with a receipt of the whole way.

    stage: who was asked before. wasted_ms: what that was expected to take.
    """

    def __init__(self, answer: Reading, model: str, stage: Stage, wasted_ms: float) -> None:
        super().__init__(answer)
        self._model, self._stage, self._wasted_ms = model, stage, wasted_ms

    def __aiter__(self) -> LargeAnswer:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._answer)

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended."""
        whole = self._answer.completion
        return None if whole is None else self._of_whole_way(whole)

    async def whole(self) -> Completion:
        """The whole answer, once it has ended."""
        return self._of_whole_way(await self._answer.whole())

    async def aclose(self) -> None:
        """Read no more."""
        await self._answer.aclose()

    def _of_whole_way(self, completion: Completion) -> Completion:
        receipt = completion.receipt
        stages, plan = (self._stage, Stage(self._model, receipt.whole_s)), receipt.plan
        if plan is not None:
            plan = replace(plan, predicted_ms=plan.predicted_ms + self._wasted_ms)
        queue_s = receipt.queue_s + self._stage.seconds
        why = f"{explained(stages)}; {receipt.why}" if receipt.why else explained(stages)
        receipt = replace(receipt, path="cascade", why=why, queue_s=queue_s, stages=stages, plan=plan)
        return replace(completion, receipt=receipt)
