"""Answers as routes read them, wherever they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from miaotui.answers.cache import Found
from miaotui.answers.flight import Reader
from miaotui.core import Plan, Receipt
from miaotui.engine.results import Completion, Delta
from miaotui.server.noted import Around

SHARED = "somebody was asking the same at that moment"


class Reading(Protocol):
    """An answer as routes read it, wherever it comes from."""

    @property
    def num_prompt_tokens(self) -> int:
        """Of the prompt as the model reads it."""

    @property
    def prompt_tail(self) -> tuple[int, ...]:
        """The prompt's last token ids, a few."""

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended."""

    @property
    def ended(self) -> list[Completion]:
        """Those of its completions that have ended."""

    def __aiter__(self) -> Reading: ...

    async def __anext__(self) -> Delta:
        """The next part. A wait for it may be cancelled and begun anew; nothing is lost."""

    async def whole(self) -> Completion:
        """The whole answer, once it has ended; parts not fetched yet are skipped."""

    async def aclose(self) -> None:
        """Read no more."""


class WholeAnswer:
    """An answer that is there already, as one part."""

    def __init__(self, completion: Completion, prompt_tail: tuple[int, ...]) -> None:
        self.num_prompt_tokens = completion.receipt.prompt_tokens
        self.prompt_tail = prompt_tail
        self._completion = completion
        self._parts = iter((Delta(0, completion.text, (), completion.finish_reason),))

    def __aiter__(self) -> WholeAnswer:
        return self

    async def __anext__(self) -> Delta:
        part = next(self._parts, None)
        if part is None:
            raise StopAsyncIteration
        return part

    @property
    def completion(self) -> Completion:
        """It has ended before it began."""
        return self._completion

    @property
    def ended(self) -> list[Completion]:
        """The same."""
        return [self._completion]

    async def whole(self) -> Completion:
        """The same."""
        return self._completion

    async def aclose(self) -> None:
        """There is nothing to free."""


class KeptAnswer(WholeAnswer):
    """One that was given before."""

    def __init__(self, found: Found, seconds: float, plan: Plan | None = None) -> None:
        entry = found.entry
        receipt = Receipt(
            path=found.path,
            why=found.why,
            prompt_tokens=entry.prompt_tokens,
            cached_tokens=entry.prompt_tokens,
            output_tokens=entry.output_tokens,
            queue_s=0.0,
            prefill_s=seconds,
            decode_s=0.0,
            seed=entry.seed,
            saved_s=entry.cost_s,
            entry=entry.id,
            matched=found.matched,
            similarity=found.similarity,
            guards=found.guards,
            plan=plan,
        )
        super().__init__(Completion(entry.answer, (), "stop", entry.stop_reason, None, receipt), entry.prompt_tail)


class SharedAnswer(Around):
    """One reader's view of an answer that others may read as well."""

    def __init__(self, answer: Reading, parts: Reader[Reading, Delta], *, leads: bool) -> None:
        super().__init__(answer)
        self._parts = parts
        self._leads = leads

    def __aiter__(self) -> SharedAnswer:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._parts)

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended; for all but the first who asked, its receipt says that it is shared."""
        whole = self._answer.completion
        if whole is None or self._leads or isinstance(self._answer, KeptAnswer):
            return whole
        took_s = whole.receipt.first_token_s + whole.receipt.decode_s
        return replace(whole, receipt=replace(whole.receipt, path="shared", why=SHARED, saved_s=took_s, plan=None))

    async def whole(self) -> Completion:
        """The whole answer, once it has ended."""
        async for _ in self:
            pass
        completion = self.completion
        if completion is None:
            raise RuntimeError("an answer without an end")
        return completion

    async def aclose(self) -> None:
        """Read no more; the last reader to leave has it cancelled."""
        await self._parts.aclose()
