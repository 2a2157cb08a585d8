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

    @property
    def reason(self) -> str:
        """What completed it."""

    def push(self, text: str) -> int:
        """How many signs at the end of all text so far may turn out to lie behind the answer's end."""

    def finish(self, *, cut: bool) -> None:
        """No more text comes: decide what was undecided. cut: more would have come, so only what that cannot change.

        To be called once, where `end` is not known.
        """


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
        if not may_stop or (self._watch is None and not self._stop):  # nothing is ever held back then
            return self._release(0)
        behind = 0 if self._watch is None else self._watch.push(text)
        return self._release(0 if self._cuts() else max(self._num_open(), behind))

    def finish(self, *, cut: bool = False) -> str:
        """The rest, when something else than a stop string ended the sequence; that, too, may hold the answer's end.

        cut: whether it might have gone on.
        """
        text = self._decoder.finish()
        self._held += text
        if self._watch is not None:
            self._watch.push(text)
            if self._watch.end is None:
                self._watch.finish(cut=cut)
        self._cuts()
        return self._release(0)

    def _cuts(self) -> bool:
        """Cut the held text where it ends, with a stop string or the answer; whether it does."""
        end = self._end()
        found = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found, key=lambda match: match[0])
            if end is None or at + len(stop) <= end:
                self.stopped_by = stop
                self._held = self._held[: at + (len(stop) if self._include_stop else 0)]
                return True
        if self._watch is not None and end is not None:
            self.stopped_by = self._watch.reason
            self._held = self._held[:end]
            return True
        return False

    def _num_open(self) -> int:
        """Characters at the end of the held text that a stop string may begin with."""
        for length in range(min(self._longest_hold, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0

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
