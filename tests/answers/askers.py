"""`Asker`s over a model that is none: it counts what it computes, and ends when it is told to."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from miaotui.answers.cache import AnswerCache
from miaotui.answers.control import CacheControl
from miaotui.core import Receipt, SamplingParams
from miaotui.engine.results import Completion, Delta
from miaotui.server.asking import Ask, Asker

LENGTH = 30
"""Tokens of every answer, if so many are allowed."""


class Model:
    """Stands for an `AsyncLLM` and for its `LLM`."""

    def __init__(self) -> None:
        self.num_computed = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.dates: tuple[str, ...] = ()
        self.kept: list[bool] = []  # of each answer, whether later ones may be drafted from it
        self.llm = self

    def clock_options(self, prompt: Any) -> dict[str, Any]:
        return {"strftime_now": self.dates} if self.dates else {}

    async def stream(self, conversation: Any, params: SamplingParams, **options: Any) -> ModelAnswer:
        self.kept.append(options["keep"])
        self.num_computed += 1
        return ModelAnswer(self, LENGTH if params.max_tokens is None else min(params.max_tokens, LENGTH))


class ModelAnswer:
    """So many tokens, as one part, when the model may end."""

    num_prompt_tokens = 7
    prompt_tail = (1, 2)

    def __init__(self, model: Model, num_tokens: int) -> None:
        self._model, self._num_tokens = model, num_tokens
        self.completion: Completion | None = None

    def __aiter__(self) -> ModelAnswer:
        return self

    async def __anext__(self) -> Delta:
        if self.completion is not None:
            raise StopAsyncIteration
        await self._model.may_end.wait()
        receipt = Receipt("model", "", 7, 0, self._num_tokens, queue_s=0.5, prefill_s=1.0, decode_s=2.0, seed=0)
        reason: Any = "stop" if self._num_tokens == LENGTH else "length"
        text = "x" * self._num_tokens
        self.completion = Completion(text, tuple(range(self._num_tokens)), reason, None, None, receipt)
        return Delta(0, text, self.completion.token_ids, reason)

    @property
    def ended(self) -> list[Completion]:
        return [] if self.completion is None else [self.completion]

    async def whole(self) -> Completion:
        async for _ in self:
            pass
        assert self.completion is not None
        return self.completion

    async def aclose(self) -> None:
        pass


class CountingLedger:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def found(self, completion: Completion) -> None:
        self.counts["found"] += 1

    def shared(self) -> None:
        self.counts["shared"] += 1


def asker(cache: AnswerCache | None, model: Model) -> Asker:
    ledger: Any = CountingLedger()
    stand_in: Any = model
    return Asker(stand_in, cache, "m", ledger)


async def asked(
    by: Asker,
    text: str = "Is it on?",
    *,
    request_id: str = "r",
    tenant: str = "",
    mode: Any = "default",
    deadline_ms: float | None = None,
    **params: Any,
) -> Completion:
    """The whole answer, read as routes read it."""
    sampling = SamplingParams(**{"temperature": 0, "max_tokens": 50, **params})
    ask = Ask(
        [{"role": "user", "content": text}],
        sampling,
        tenant,
        request_id,
        control=CacheControl(mode),
        deadline_ms=deadline_ms,
    )
    answer = await by.ask(ask)
    try:
        return await answer.whole()
    finally:
        await answer.aclose()
