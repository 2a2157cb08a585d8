"""`Cascade`: models ordered by cost in one process, asked in turn until a gate lets an answer pass."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence as Row
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import TracebackType
from typing import Any

from miaotui.adaptive.cascade.answer import Answer
from miaotui.adaptive.cascade.asking import Asked, answers, prompt_for
from miaotui.adaptive.cascade.gate import Gate
from miaotui.adaptive.cascade.models import open_models
from miaotui.adaptive.cascade.signals import find_signal, measure
from miaotui.adaptive.cascade.vocabulary import same_vocabulary
from miaotui.adaptive.drafters.given import MOST_GIVEN, GivenDrafter
from miaotui.core import Stage
from miaotui.engine.llm import LLM
from miaotui.engine.messages import Message
from miaotui.engine.results import Completion
from miaotui.errors import GateError, InvalidRequestError

TOGETHER = min(128, MOST_GIVEN)
"""So many prompts are taken from model to model together."""


@dataclass(slots=True)
class _Item:
    """One prompt on its way. begin_s, asked_s: when it came, and when the last model was asked; monotonic."""

    given: str | Row[Message]
    begin_s: float
    stages: list[Stage] = field(default_factory=list)
    draft: tuple[int, ...] = ()
    asked_s: float = 0.0
    done: Answer | None = None


class Cascade:
    """Models, cheapest first, and a gate for each but the last. A context manager; `close` frees the models' memory.

    The models belong to it from then on: they are asked one after the other and never at once, for they share the
    process's threads. Where a model was opened with a `GivenDrafter` and has the vocabulary of the one before it, it
    checks that one's answer several tokens at a time instead of writing anew: the same output, in fewer steps.

    Raises InvalidRequestError for numbers of models and gates that do not fit, GateError for gates that were calibrated
    for others.
    """

    def __init__(self, models: Row[LLM], gates: Row[Gate]) -> None:
        if len(models) < 2 or len(gates) != len(models) - 1:
            raise InvalidRequestError(
                f"a cascade is two models or more and a gate for each but the last, not {len(models)} and {len(gates)}."
            )
        for number, gate in enumerate(gates):
            gate.check(models[number:])
        if any(gate.asking != gates[0].asking for gate in gates):
            raise GateError("the gates were calibrated for different instructions, choices or lengths; calibrate anew.")
        self.models, self.gates, self.asking = tuple(models), tuple(gates), gates[0].asking
        self._lock = threading.Lock()
        self._drafters: list[GivenDrafter | None] = [None]
        for before, llm in pairwise(models):
            self._drafters.append(_drafter_of(llm) if same_vocabulary(before, llm) else None)

    @classmethod
    def open(cls, models: Row[str | os.PathLike[str]], gates: Row[Gate], **options: Any) -> Cascade:
        """Models by name or path, within one budget of memory; options: those of `open_models`."""
        opened = open_models(models, **options)
        try:
            return cls(opened, gates)
        except BaseException:
            for llm in opened:
                llm.close()
            raise

    def generate(self, prompts: Row[str | Row[Message]], *, tenant: str = "") -> list[Completion]:
        """An answer to each text (behind the gates' instruction) or conversation.

        Its receipt's path is "cascade", `stages` has the models that were asked, and `why` says why it ended there.
        tenant: who asks; tenants share nothing that models remember. Raises what `LLM.generate` does.
        """
        if isinstance(prompts, str):
            raise InvalidRequestError("a cascade takes a list of prompts; put the one into a list.")
        begin_s = time.monotonic()
        items = [_Item(given, begin_s) for given in prompts]
        for begin in range(0, len(items), TOGETHER):
            self._answer(items[begin : begin + TOGETHER], tenant)
        return [_completion(item) for item in items]

    def close(self) -> None:
        """Close all models. Harmless when repeated."""
        for llm in self.models:
            llm.close()

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, items: list[_Item], tenant: str) -> None:
        """From model to model, with fewer items each time. A gate that lets nothing pass has nobody asked."""
        for number, llm in enumerate(self.models):
            gate = self.gates[number] if number < len(self.gates) else None
            if gate is not None and gate.threshold is None:
                for item in items:
                    item.draft = ()  # of a model with perhaps another vocabulary
                continue
            if left := [item for item in items if item.done is None]:
                with self._lock:
                    self._ask(llm, gate, self._drafters[number], left, tenant)

    def _ask(self, llm: LLM, gate: Gate | None, drafter: GivenDrafter | None, items: list[_Item], tenant: str) -> None:
        """One model's turn; items whose answers pass are done."""
        asked = [prompt_for(llm, self.asking, item.given) for item in items]
        if drafter is not None and not self.asking.choices:
            for item, prompt in zip(items, asked, strict=True):
                if item.draft:
                    drafter.give(prompt.ids, item.draft, tenant)
        asked_s = time.monotonic()
        try:
            said = answers(llm, self.asking, asked, sure=gate is not None, tenant=tenant)
        finally:
            if drafter is not None:
                drafter.forget()
        stages = [Stage(llm.spec.name, one.seconds) for one in said]
        if gate is not None:
            stages = _judged(llm, gate, asked, said, tenant)
        for item, answer, stage in zip(items, said, stages, strict=True):
            item.stages.append(stage)
            item.asked_s, item.draft = asked_s, answer.completion.token_ids
            if gate is None or (stage.value is not None and gate.lets_pass(stage.value)):
                item.done = answer


def _judged(llm: LLM, gate: Gate, asked: list[Asked], said: list[Answer], tenant: str) -> list[Stage]:
    """A stage for each answer, with the gate's signal; where that asks again, its time counts, too."""
    signal, begin_s = find_signal(gate.signal), time.monotonic()
    values = measure(signal, llm, asked, said, tenant)
    more_s = time.monotonic() - begin_s if signal.asks_again else 0.0
    return [
        Stage(llm.spec.name, one.seconds + more_s, gate.signal, value, gate.threshold)
        for one, value in zip(said, values, strict=True)
    ]


def _drafter_of(llm: LLM) -> GivenDrafter | None:
    drafter = llm.loaded.engine.scheduler.drafter
    return drafter if isinstance(drafter, GivenDrafter) else None


def _completion(item: _Item) -> Completion:
    """The answer with a receipt of the whole way."""
    if item.done is None:
        raise RuntimeError("the last model of a cascade answers in any case")
    completion = item.done.completion
    receipt = replace(
        completion.receipt,
        path="cascade",
        why=explained(item.stages),
        queue_s=completion.receipt.queue_s + item.asked_s - item.begin_s,
        stages=tuple(item.stages),
    )
    return replace(completion, receipt=receipt)


def explained(stages: Row[Stage]) -> str:
    """Why a cascade ended where it did; the last stage is the one that has answered."""
    *before, last = stages
    parts = [f"{one.model} was not sure enough ({one.signal} {one.value:.3g} < {one.threshold:.3g})" for one in before]
    if last.signal is not None:
        parts.append(f"{last.model} was sure enough ({last.signal} {last.value:.3g} >= {last.threshold:.3g})")
    elif before:
        parts.append(f"{last.model} answered")
    else:
        parts.append(f"no answer of a smaller model is known to suffice, so {last.model} answered")
    return "; ".join(parts)
