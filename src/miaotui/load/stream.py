"""An event stream, read after it has ended: what each event says, and when it came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec

from miaotui.load.outcome import Fault, Outcome

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def has_text(self) -> bool:
        delta = self.delta or _Delta()
        return bool(self.text or delta.content or delta.reasoning_content or delta.reasoning)


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class Usage(msgspec.Struct):
    """OpenAI's counts of tokens."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class _Receipt(msgspec.Struct):
    queue_ms: float | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    miaotui: _Receipt | None = None


_decode = msgspec.json.Decoder(_Event).decode


def read_stream(reads: Iterable[tuple[float, bytes]], outcome: Outcome, content_type: str = "") -> None:
    """Enter into the outcome what the events say. reads: what each read from the socket gave, and when.

    Sets `fault` where the stream is not one of OpenAI's, ends half-way, holds an error, or holds no text.
    """
    num_events, ended = 0, False
    try:
        for at_s, data in _events(reads):
            num_events += 1
            if data == b"[DONE]":
                ended = True
                break
            event = _decode(data)
            if event.error is not None:
                outcome.fault = Fault("stream_error", error_text(event.error))
                return
            ended |= _enter(event, at_s, outcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        outcome.fault = Fault("invalid_event", f"event {num_events} cannot be read: {error}")
        return
    if not num_events and "text/event-stream" not in content_type:
        outcome.fault = Fault("not_a_stream", f"the reply is {content_type or 'of no type'}, no event stream")
    elif not ended:
        outcome.fault = Fault("cut_short", f"the stream ended behind event {num_events} without [DONE]")
    elif not outcome.content_s:
        outcome.fault = Fault("empty", "the answer holds no text")
    elif not outcome.output_tokens:
        outcome.output_tokens, outcome.counted_by = len(outcome.content_s), "pieces"


def _enter(event: _Event, at_s: float, outcome: Outcome) -> bool:
    """Note one event; True if it says that the answer is at its end."""
    choices = event.choices or ()
    if any(choice.has_text for choice in choices):
        outcome.content_s.append(at_s)
    if event.usage is not None:
        outcome.prompt_tokens = event.usage.prompt_tokens
        outcome.output_tokens = event.usage.completion_tokens or 0
        if event.usage.prompt_tokens_details is not None:
            outcome.cached_tokens = event.usage.prompt_tokens_details.cached_tokens
    if event.miaotui is not None and event.miaotui.queue_ms is not None:
        outcome.queue_s = event.miaotui.queue_ms / 1e3
    return any(choice.finish_reason for choice in choices)


def _events(reads: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """Data of each event and when its last byte came (WHATWG HTML, 9.2.6); comments and other fields are left out."""
    rest, data = b"", []
    for at_s, piece in reads:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].strip())
            elif not line and data:
                yield at_s, b"\n".join(data)
                data = []


def error_text(error: Any) -> str:
    """The message of an `error` object in any of the forms that servers give it; at most 300 characters."""
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:300]
