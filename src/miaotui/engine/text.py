"""Text of a running sequence: tokens in, safe text out, cut at the first stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """Turns token ids into text piece by piece; `formats.detokenize.StreamDecoder`."""

    def push(self, token_id: int) -> str:
        """Text that became certain with this token."""

    def finish(self) -> str:
        """What is left at the end."""


class TextStream:
    """Holds back only what could still become a stop string, which may span any number of tokens.

    `text` is everything given out so far; `stopped_by` the stop string that was found, after which nothing may be
    pushed.
    """

    def __init__(self, decoder: Decoder, stop: Sequence[str] = (), *, include_stop: bool = False) -> None:
        self._decoder = decoder
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
        self._held += self._decoder.push(token_id)
        return self._release(0 if not may_stop else self._num_undecided())

    def finish(self) -> str:
        """The rest, when something else than a stop string ended the sequence."""
        self._held += self._decoder.finish()
        self._num_undecided()
        return self._release(0)

    def _num_undecided(self) -> int:
        """Characters at the end of the held text that may begin a stop string; cuts the text when one is complete."""
        found = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.stopped_by = min(found, key=lambda match: match[0])
            self._held = self._held[: at + (len(self.stopped_by) if self._include_stop else 0)]
            return 0
        for length in range(min(self._longest_hold, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0

    def _release(self, num_kept: int) -> str:
        split = len(self._held) - num_kept
        text, self._held = self._held[:split], self._held[split:]
        if text:
            self._parts.append(text)
        return text
