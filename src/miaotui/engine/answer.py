"""One request under way, as a caller of an event loop reads it."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable

from miaotui.engine.chat_output import TAIL_TOKENS
from miaotui.engine.results import Completion, Delta
from miaotui.engine.sequence import Sequence
from miaotui.engine.stream import completion_of
from miaotui.errors import SlowReaderError

MAX_UNREAD_BYTES = 1 << 20
"""A reader who leaves more than this unread has gone away, whatever its connection says."""
PART_BYTES, TOKEN_BYTES, SCORE_BYTES, ALTERNATIVE_BYTES = 136, 40, 160, 120
"""Of memory, about: a part, beside its text; each of its tokens; a token's score; each alternative to that token."""
MAX_JOINED = 4096
"""Unread parts are joined to parts of about so many characters: they take little more memory than their text."""
PROMPT_TAIL = TAIL_TOKENS

Tell = Callable[[Completion | None, Exception | None], None]


def held_bytes(part: Delta) -> int:
    """Bytes of memory that a part takes, about."""
    scores = part.logprobs or ()
    num_alternatives = sum(len(score.top) for score in scores)
    return (
        PART_BYTES
        + sys.getsizeof(part.text)
        + TOKEN_BYTES * len(part.token_ids)
        + SCORE_BYTES * len(scores)
        + ALTERNATIVE_BYTES * num_alternatives
    )


class Answer:
    """One request under way: an asynchronous iterator over its parts.

    To be closed (`aclose`, or `contextlib.aclosing`) where it is left early: that frees its memory within a step.
    """

    def __init__(self, sequences: list[Sequence], tell: Tell, forget: Callable[[Answer], None]) -> None:
        self._forget = forget  # cancels what has not finished
        self._sequences = sequences
        self._tell: Tell | None = tell
        self._last_s: dict[int, float] = {}  # when each sequence had its last token
        self._parts: deque[Delta] = deque()
        self._num_open = len(sequences)  # whose last part has not arrived
        self._unread_bytes = 0
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
        self._unread_bytes -= held_bytes(part)
        return part

    @property
    def num_prompt_tokens(self) -> int:
        """Of the prompt as the model reads it."""
        return len(self._sequences[0].request.prompt_token_ids)

    @property
    def prompt_tail(self) -> tuple[int, ...]:
        """The prompt's last token ids, a few."""
        return self._sequences[0].request.prompt_token_ids[-PROMPT_TAIL:]

    @property
    def completion(self) -> Completion | None:
        """The whole answer once it has ended, however it ended; None while it goes on."""
        return completion_of(self._sequences) if self._num_open == 0 else None

    @property
    def ended(self) -> list[Completion]:
        """Those of its completions that have ended."""
        return [sequence.completion() for sequence in self._sequences if sequence.finish_reason is not None]

    async def whole(self) -> Completion:
        """The whole answer, once it has ended; parts not fetched yet are skipped."""
        async for _ in self:
            pass
        return completion_of(self._sequences)

    async def aclose(self) -> None:
        """Cancel what has not finished. Harmless when repeated."""
        self._forget(self)

    def _push(self, part: Delta) -> None:
        self._keep(part)
        self._num_open -= part.finish_reason is not None
        if self._unread_bytes > MAX_UNREAD_BYTES and self._error is None:
            self._parts.clear()
            self._fail(SlowReaderError("the reader left more than 1 MiB of the answer unread; it was cancelled."))
            self._forget(self)
        self._arrived.set()

    def _keep(self, part: Delta) -> None:
        """Put a part behind those that are unread, as one with the last of them where that can be told from nothing."""
        last = self._parts[-1] if self._parts else None
        if last is not None and last.index == part.index and part.logprobs is None and len(last.text) < MAX_JOINED:
            self._unread_bytes -= held_bytes(self._parts.pop())
            part = last.joined(part)
        self._parts.append(part)
        self._unread_bytes += held_bytes(part)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._arrived.set()

    def _end(self, completion: Completion | None) -> None:
        """Tell the watcher, the first time this is called."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(completion, self._error)

    def _gap(self, part: Delta, now_s: float) -> float | None:
        """Seconds since the sequence's last token; None for a part without any, or with the first."""
        if not part.token_ids:
            return None
        last_s, self._last_s[part.index] = self._last_s.get(part.index), now_s
        return None if last_s is None else now_s - last_s
