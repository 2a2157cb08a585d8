"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.engine.chat_output import CallArguments, CallStart, Piece, Reasoning
from miaotui.engine.results import Completion, Delta
from miaotui.server.answers import Service, events_of, while_connected
from miaotui.server.bodies import read
from miaotui.server.replies import (
    DONE,
    KEEP_ALIVE,
    built,
    chat_logprobs,
    error_body,
    event,
    event_stream,
    shown_receipt,
    usage,
)
from miaotui.server.turns import Message, Turn
from miaotui.server.wire import ChatRequest


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, at once or part by part."""
    service: Service = request.app.state.service
    wire = await read(request, ChatRequest)
    asked = wire.asked()
    service.check_model(wire.model)
    start = Turn.start(asked, request, service)
    if wire.stream:
        head = service.head("chat.completion.chunk", request)
        return event_stream(_events(await while_connected(request, start), wire, service, head))
    return await while_connected(request, _whole(start, wire, request, service))


async def _whole(start: Any, wire: ChatRequest, request: Request, service: Service) -> Response:
    """A reply that is not streamed."""
    turn: Turn = await start
    async with aclosing(turn.answer):
        completion, messages = await turn.messages()
    ones = (completion, *completion.others)

    def body() -> dict[str, Any]:
        choices = [
            _choice(index, one, message, turn, service)
            for index, (one, message) in enumerate(zip(ones, messages, strict=True))
        ]
        return service.head("chat.completion", request) | {"choices": choices} | _totals(completion, wire)

    return await built(body, is_long=wire.logprobs is True)


def _totals(completion: Completion, wire: ChatRequest) -> dict[str, Any]:
    """What is known at the end: counts, and the receipt for those who ask for it."""
    return {"usage": usage([completion])} | shown_receipt(completion.receipt, wire.miaotui)


def _choice(index: int, one: Completion, message: Message, turn: Turn, service: Service) -> dict[str, Any]:
    body: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.reasoning:
        body["reasoning_content"] = message.reasoning
    if message.calls:
        body["content"] = message.text or None
        body["tool_calls"] = [
            {
                "id": turn.call_id(index, number),
                "type": "function",
                "function": {"name": c.name, "arguments": c.arguments},
            }
            for number, c in enumerate(message.calls)
        ]
    return {
        "index": index,
        "message": body,
        "logprobs": chat_logprobs(one.logprobs, service.llm.llm.tokenizer.token_bytes),
        "finish_reason": turn.ending(one, index),
    }


async def _events(turn: Turn, wire: ChatRequest, service: Service, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """The answer's parts as OpenAI's chunks; an error in between is an event, too, and nothing follows it."""
    more = {"usage": None} if wire.wants_usage else {}

    def say(part: Delta) -> Iterator[bytes]:
        return (event(head | {"choices": [body]} | more) for body in _bodies(part, turn, service))

    async with aclosing(turn.answer):
        try:
            for index in range(wire.n or 1):
                yield event(head | {"choices": [_chunk(index, {"role": "assistant", "content": ""})]} | more)
            async with aclosing(events_of(turn.answer, say, KEEP_ALIVE, service.settings.keep_alive_s)) as events:
                async for one in events:
                    yield one
            completion = turn.answer.completion
            if completion is not None and (wire.wants_usage or wire.miaotui):
                yield event(head | {"choices": []} | _totals(completion, wire))
            yield DONE
        except Exception as error:  # the reply has begun: it can only be said in its stream
            yield event(error_body(error)[1])


def _bodies(part: Delta, turn: Turn, service: Service) -> list[dict[str, Any]]:
    """A part's pieces as a chunk each, the last with its log-probabilities; its end as another."""
    deltas = [_delta(piece, turn, part.index) for piece in turn.read(part)]
    if part.logprobs and not deltas:
        deltas = [{"content": ""}]
    bodies = [_chunk(part.index, delta) for delta in deltas]
    if part.logprobs:
        bodies[-1]["logprobs"] = chat_logprobs(part.logprobs, service.llm.llm.tokenizer.token_bytes)
    if part.finish_reason is not None:
        bodies.append(_chunk(part.index, {"content": ""}, finish_reason=turn.ending(part, part.index)))
    return bodies


def _delta(piece: Piece, turn: Turn, index: int) -> dict[str, Any]:
    """A piece of text or of a call; every delta has a content, which some clients insist on."""
    if isinstance(piece, CallStart):
        function = {"name": piece.name, "arguments": ""}
        call = {"index": piece.index, "id": turn.call_id(index, piece.index), "type": "function", "function": function}
        return {"content": None, "tool_calls": [call]}
    if isinstance(piece, CallArguments):
        return {"content": None, "tool_calls": [{"index": piece.index, "function": {"arguments": piece.text}}]}
    if isinstance(piece, Reasoning):
        return {"content": None, "reasoning_content": piece.text}
    return {"content": piece.text}


def _chunk(index: int, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
