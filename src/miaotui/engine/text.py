"""Text of a running sequence: tokens in, safe text out, cut at a stop string or where the answer is complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """Turns token ids into text piece by piece; `formats.detokenize.StreamDecoder`."""

    def push(self, token_id: int) -> str:
        """Text that became certain with this token."""

    def finish(self) -> str:
        """What is left at the end."""


class EndWatch(Protocol):
    """Finds where an answer is complete; `engine.json_end`, `engine.choice_end`."""

    end: int | None
    """Signs of the whole answer, once it is complete."""
    reason: str
    """What completed it."""

    def push(self, text: str) -> int:
        """How many signs at the end of all text so far may turn out to lie behind the answer's end."""


class TextStream:
    """Holds back only what could still become a stop string, which may span any number of tokens.

    watch: ends the text where it finds the answer complete, if no stop string was complete before; what may lie behind
    that end is held back, too. `text` is everything given out so far; `stopped_by` the stop string that was found, or
    what the watch found, after which nothing may be pushed.
    """

    def __init__(
        self,
        decoder: Decoder,
        stop: Sequence[str] = (),
        *,
        include_stop: bool = False,
        watch: EndWatch | None = None,
    ) -> None:
        self._decoder = decoder
        self._watch = watch
        self._num_released = 0
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._longest_hold = max(map(len, self._stop), default=1) - 1
        self._held = ""
        self._parts: list[str] = []
        self.stopped_by: str | None = None

    @property
    def text(self) -> str:
        """All text given out so far."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def push(self, token_id: int, *, may_stop: bool = True) -> str:
        """Text that is safe to show now. With `may_stop` False, text up to here can hold no stop string."""
        text = self._decoder.push(token_id)
        self._held += text
        return self._release(0 if not may_stop else self._num_undecided(text))

    def finish(self) -> str:
        """The rest, when something else than a stop string ended the sequence."""
        text = self._decoder.finish()
        self._held += text
        self._num_undecided(text)
        return self._release(0)

    def _num_undecided(self, text: str) -> int:
        """Characters at the end of the held text that may not be shown yet; cuts the text where it ends.

        text: those of it that came last.
        """
        behind = 0 if self._watch is None else self._watch.push(text)
        end = self._end()
        found = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found, key=lambda match: match[0])
            if end is None or at + len(stop) <= end:
                self.stopped_by = stop
                self._held = self._held[: at + (len(stop) if self._include_stop else 0)]
                return 0
        if self._watch is not None and end is not None:
            self.stopped_by = self._watch.reason
            self._held = self._held[:end]
            return 0
        for length in range(min(self._longest_hold, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return max(length, behind)
        return behind

    def _end(self) -> int | None:
        """Where in the held text the answer is complete, as the watch says."""
        end = None if self._watch is None else self._watch.end
        return None if end is None else end - self._num_released

    def _release(self, num_kept: int) -> str:
        split = max(len(self._held) - num_kept, 0)
        text, self._held = self._held[:split], self._held[split:]
        self._num_released += len(text)
        if text:
            self._parts.append(text)
        return text
