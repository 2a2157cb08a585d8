"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's way of asking for an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.engine.chat_output import CallArguments, CallStart, Piece, Reasoning
from miaotui.engine.encoding_line import num_characters
from miaotui.engine.results import Completion, Delta
from miaotui.server.answers import Service, events_of, while_connected
from miaotui.server.bodies import read
from miaotui.server.messages_wire import CountRequest, MessagesRequest
from miaotui.server.replies import error_body, event_stream, json_reply, named_event, shown_receipt
from miaotui.server.turns import Message, Turn

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use"}


async def count_tokens(request: Request) -> Response:
    """How many tokens a conversation is for this model."""
    service: Service = request.app.state.service
    asked = await read(request, CountRequest)
    service.check_model(asked.model)
    tools = [tool.as_openai() for tool in asked.offered()]
    conversation = asked.conversation()
    work = service.llm.encoding.run(
        lambda: service.llm.llm.encode_chat(conversation, tools=tools),
        num_characters((conversation, tools)),
        request.state.tenant,
    )
    ids = await while_connected(request, work)
    return json_reply({"input_tokens": len(ids)})


async def messages(request: Request) -> Response:
    """Answer a conversation, at once or part by part."""
    service: Service = request.app.state.service
    wire = await read(request, MessagesRequest)
    asked = wire.asked()
    service.check_model(wire.model)
    start = Turn.start(asked, request, service)
    headers = {"request-id": request.state.request_id}
    head = {
        "id": f"msg_{request.state.request_id}",
        "type": "message",
        "role": "assistant",
        "model": service.settings.model_name,
    }
    if wire.stream:
        return event_stream(_events(await while_connected(request, start), wire, service, head), headers)
    return json_reply(head | await while_connected(request, _whole(start, wire)), headers=headers)


async def _whole(start: Any, wire: MessagesRequest) -> dict[str, Any]:
    turn: Turn = await start
    async with aclosing(turn.answer):
        completion, (message,) = await turn.messages()
    said = {"content": _blocks(message, turn), **_ending(completion, turn), "usage": _usage(completion)}
    return said | shown_receipt(completion.receipt, wire.miaotui)


def _blocks(message: Message, turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if message.reasoning:
        blocks.append({"type": "thinking", "thinking": message.reasoning, "signature": ""})
    if message.text or not message.calls:
        blocks.append({"type": "text", "text": message.text})
    for number, call in enumerate(message.calls):
        name, identity = call.name, turn.call_id(0, number, "toolu")
        blocks.append({"type": "tool_use", "id": identity, "name": name, "input": _object(call.arguments)})
    return blocks


def _object(arguments: str) -> Any:
    """Arguments as an object; what a model cut short or misspelt is shown as it is."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return {"_raw": arguments}


def _ending(completion: Completion, turn: Turn) -> dict[str, Any]:
    """Why it ended, in Anthropic's words."""
    reason, at = turn.ending(completion, 0), completion.stop_reason
    if reason in _STOP_REASONS:
        return {"stop_reason": _STOP_REASONS[reason], "stop_sequence": None}
    if isinstance(at, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": at}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage(completion: Completion) -> dict[str, int]:
    """Input tokens count what was read and, apart from it, what was found in the prefix cache."""
    receipt = completion.receipt
    return {
        "input_tokens": receipt.prompt_tokens - receipt.cached_tokens,
        "cache_read_input_tokens": receipt.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": receipt.output_tokens,
    }


class _BlockEvents:
    """Turns the pieces of an answer into Anthropic's numbered blocks, which begin and end one after the other."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._number = -1
        self._kind: object = None

    def of(self, piece: Piece) -> list[dict[str, Any]]:
        """The events for the next piece."""
        if isinstance(piece, CallStart):
            identity = self._turn.call_id(0, piece.index, "toolu")
            return self._begin(
                ("call", piece.index), {"type": "tool_use", "id": identity, "name": piece.name, "input": {}}
            )
        if isinstance(piece, CallArguments):
            return [self._delta({"type": "input_json_delta", "partial_json": piece.text})]
        if isinstance(piece, Reasoning):
            begun = self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            return [*begun, self._delta({"type": "thinking_delta", "thinking": piece.text})]
        return [
            *self._begin("text", {"type": "text", "text": ""}),
            self._delta({"type": "text_delta", "text": piece.text}),
        ]

    def end(self) -> list[dict[str, Any]]:
        """The events behind the last piece; an answer has at least one block."""
        begun = self._begin("text", {"type": "text", "text": ""}) if self._number < 0 else []
        return [*begun, {"type": "content_block_stop", "index": self._number}]

    def _begin(self, kind: object, block: dict[str, Any]) -> list[dict[str, Any]]:
        if kind == self._kind:
            return []
        events = [{"type": "content_block_stop", "index": self._number}] if self._number >= 0 else []
        self._kind, self._number = kind, self._number + 1
        return [*events, {"type": "content_block_start", "index": self._number, "content_block": block}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._number, "delta": delta}


async def _events(turn: Turn, wire: MessagesRequest, service: Service, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """The answer's parts as Anthropic's events; the receipt, if asked for, beside the counts of the last but one."""
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    blocks = _BlockEvents(turn)

    def say(part: Delta) -> Iterator[bytes]:
        return (named_event(body) for piece in turn.read(part) for body in blocks.of(piece))

    async with aclosing(turn.answer):
        try:
            counts = {"input_tokens": turn.answer.num_prompt_tokens, "output_tokens": 0}
            yield named_event({"type": "message_start", "message": head | empty | {"usage": counts}})
            async with aclosing(events_of(turn.answer, say, PING, service.settings.keep_alive_s)) as events:
                async for one in events:
                    yield one
            for body in blocks.end():
                yield named_event(body)
            completion = turn.answer.completion
            if completion is not None:
                ending, counts = _ending(completion, turn), _usage(completion)
                more = shown_receipt(completion.receipt, wire.miaotui)
                yield named_event({"type": "message_delta", "delta": ending, "usage": counts} | more)
            yield named_event({"type": "message_stop"})
        except Exception as error:  # the reply has begun: it can only be said in its stream
            yield named_event(error_body(error, "/v1/messages")[1])
