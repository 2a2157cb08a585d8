"""What a chat model wrote, as it comes: reasoning, text for the user, and calls of tools.

Nothing is lost: what begins like a call and turns out to be none is text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from miaotui.engine.tool_call_text import CallText
from miaotui.engine.tools import ToolFormat

THINK, END_THINK = "<think>", "</think>"
PYTHON_TAG = "<|python_tag|>"
TAIL_TOKENS = 8
"""Of a prompt, at its end: so many are enough to see whether it opens a block of reasoning."""


def opens_reasoning(prompt_tail: str) -> bool:
    """Whether a prompt that ends so ends inside a block of reasoning, which the answer then begins with."""
    return prompt_tail.rstrip().endswith(THINK)


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """More of what the model says to itself."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool is called; calls are counted from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments, which are JSON."""

    index: int
    text: str


Piece = Text | Reasoning | CallStart | CallArguments


class ChatOutput:
    """Splits one answer's text; `push` its parts in order, then `finish`.

    style: how calls are written; None where no tools were offered. names: the tools there are. reasoning: whether the
    prompt ends inside a block of reasoning already. several: whether calls may follow the first; else they are text.
    """

    def __init__(
        self,
        style: ToolFormat | None = None,
        names: Collection[str] = (),
        *,
        reasoning: bool = False,
        several: bool = True,
    ) -> None:
        self._style = style
        self._names = frozenset(names)
        self._several = several
        self._held = ""
        self._reasoning = reasoning
        self._at_start = True  # nothing but white space so far
        self._after_reasoning = False
        self._space = ""  # before the call that is read
        self._call: CallText | None = None
        self.num_calls = 0

    def push(self, text: str) -> list[Piece]:
        """What became certain with more text."""
        self._held += text
        pieces: list[Piece] = []
        while self._advance(pieces):
            pass
        return _joined(pieces)

    def finish(self) -> list[Piece]:
        """The rest, when no more text comes."""
        pieces: list[Piece] = []
        if self._call is not None:
            self._end_call(pieces, self._call)
        if self._held and not (self.num_calls and not self._held.strip("; \n")):
            self._say(pieces, self._held)
        self._held = ""
        return _joined(pieces)

    @property
    def _may_call(self) -> bool:
        return self._several or self.num_calls == 0

    def _advance(self, pieces: list[Piece]) -> bool:
        """Take something from the held text; False where more is needed, or nothing is left."""
        if not self._held:
            return False
        if self._call is not None:
            return self._read_call(pieces, self._call)
        if self._reasoning:
            return self._read_reasoning(pieces)
        if self._at_start:
            return self._begin()
        if self._style is not None and self._style.begin and self._may_call:
            return self._read_until_call(pieces, self._style.begin)
        return self._release(pieces, len(self._held))

    def _begin(self) -> bool:
        """Decide by its first characters what kind of text it is."""
        start = self._held.lstrip("; \n" if self.num_calls else None)
        if start.startswith(THINK):
            self._held, self._reasoning = start.removeprefix(THINK), True
            return True
        plain = self._style is not None and not self._style.begin
        if plain and start.startswith(PYTHON_TAG):
            self._held = start = start.removeprefix(PYTHON_TAG).lstrip()
        if plain and start.startswith("{"):
            self._held, self._at_start, self._call = start, False, CallText(self._names, "")
            return True
        if any(mark.startswith(start) for mark in ((THINK, PYTHON_TAG) if plain else (THINK,))):
            return False  # too short to tell
        self._at_start = False
        if self._after_reasoning:
            self._held = start
        return True

    def _read_reasoning(self, pieces: list[Piece]) -> bool:
        at = self._held.find(END_THINK)
        if at < 0:
            return self._release_before(pieces, END_THINK)
        self._release(pieces, len(self._held[:at].rstrip()))
        self._held = self._held.lstrip().removeprefix(END_THINK)
        self._reasoning, self._at_start, self._after_reasoning = False, True, True
        return True

    def _read_until_call(self, pieces: list[Piece], begin: str) -> bool:
        at = self._held.find(begin)
        if at >= 0:
            length = len(self._held[:at].rstrip())
            self._space = self._held[length:at]
            self._release(pieces, length)
            self._held = self._held[len(self._space) + len(begin) :]
            self._call = CallText(None, self._style.end if self._style else "")
            return True
        return self._release_before(pieces, begin)

    def _read_call(self, pieces: list[Piece], call: CallText) -> bool:
        rest = call.push(self._held)
        self._held = ""
        self._take(pieces, call)
        if rest is None:
            return False
        self._held = rest
        self._end_call(pieces, call)
        return True

    def _take(self, pieces: list[Piece], call: CallText) -> None:
        name, arguments = call.take()
        if name is not None:
            pieces.append(CallStart(self.num_calls, name))
            self.num_calls += 1
        if arguments:
            pieces.append(CallArguments(self.num_calls - 1, arguments))

    def _end_call(self, pieces: list[Piece], call: CallText) -> None:
        self._call = None
        behind = call.finish()
        self._take(pieces, call)
        if call.refused:
            pieces.append(Text(self._space + (self._style.begin if self._style else "") + call.refused))
        else:
            self._at_start = self._may_call and not (self._style and self._style.begin)  # another one may follow
        if behind:
            pieces.append(Text(behind))

    def _release_before(self, pieces: list[Piece], mark: str) -> bool:
        """Give out what stands before the mark if it comes next; space before it is not text."""
        return self._release(pieces, len(self._held[: len(self._held) - _num_open(self._held, mark)].rstrip()))

    def _release(self, pieces: list[Piece], length: int) -> bool:
        """Give so many held characters out; whether that is worth another look."""
        if length > 0:
            self._say(pieces, self._held[:length])
            self._held = self._held[length:]
        return False

    def _say(self, pieces: list[Piece], text: str) -> None:
        pieces.append(Reasoning(text) if self._reasoning else Text(text))


def _num_open(text: str, mark: str) -> int:
    """Characters at the end of the text that may be the beginning of the mark."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of a kind as one; text between two calls that is only space is left out."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + piece.text)
        elif isinstance(piece, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + piece.text)
        else:
            joined.append(piece)
    return joined
