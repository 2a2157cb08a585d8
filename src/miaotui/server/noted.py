"""Which way a question took, written down when its answer has ended: only then is it known, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from miaotui.answers.cache import Found, Missed
from miaotui.answers.decision import Decision, Path
from miaotui.answers.question import Question
from miaotui.core import Receipt
from miaotui.engine.results import Completion, Delta

if TYPE_CHECKING:
    from miaotui.server.reading import Reading

UNFINISHED = "; it was left, or failed, before it had ended"


class Around:
    """What is said of an answer, said of the one inside."""

    def __init__(self, answer: Reading) -> None:
        self._answer = answer

    @property
    def num_prompt_tokens(self) -> int:
        """Of the prompt as the model reads it."""
        return self._answer.num_prompt_tokens

    @property
    def prompt_tail(self) -> tuple[int, ...]:
        """The prompt's last token ids, a few."""
        return self._answer.prompt_tail

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended."""
        return self._answer.completion

    @property
    def ended(self) -> list[Completion]:
        """Those of its completions that have ended."""
        return self._answer.ended


class Noted(Around):
    """An answer as one reader sees it. note: called once, when it has ended or is left; None where it has not ended."""

    def __init__(self, answer: Reading, note: Callable[[Completion | None], None]) -> None:
        super().__init__(answer)
        self._note: Callable[[Completion | None], None] | None = note

    def __aiter__(self) -> Noted:
        return self

    async def __anext__(self) -> Delta:
        try:
            return await anext(self._answer)
        except StopAsyncIteration:
            self._end()
            raise

    async def whole(self) -> Completion:
        """The whole answer, once it has ended."""
        completion = await self._answer.whole()
        self._end()
        return completion

    async def aclose(self) -> None:
        """Read no more."""
        self._end()
        await self._answer.aclose()

    def _end(self) -> None:
        note, self._note = self._note, None
        if note is not None:
            note(self._answer.completion)


def decision_on(
    request_id: str, question: Question, seen: Found | Missed, path: Path, receipt: Receipt | None, took_s: float
) -> Decision:
    """What became of a request. path: the way it set out on, which its receipt corrects; None where it has not ended.

    took_s: how long it was looked for among what is kept.
    """
    decision = Decision(
        request_id=request_id,
        tenant=question.tenant,
        path=path,
        why=seen.why,
        created_s=time.time(),
        question=question.shown,
        entry=question.key.hex(),
        candidates=seen.candidates,
        times_s={"look_up": took_s},
    )
    if receipt is None:
        return replace(decision, why=seen.why + UNFINISHED)
    path = cast("Path", receipt.path)
    times = {"look_up": took_s}
    if path in ("model", "cascade"):
        times |= {"queue": receipt.queue_s, "prefill": receipt.prefill_s, "decode": receipt.decode_s}
    return replace(
        decision,
        path=path,
        why=seen.why if path == "model" else receipt.why,
        entry=receipt.entry or decision.entry,
        matched=receipt.matched,
        similarity=receipt.similarity,
        guards=receipt.guards,
        saved_s=receipt.saved_s,
        times_s=times,
        plan=receipt.planned,
    )
