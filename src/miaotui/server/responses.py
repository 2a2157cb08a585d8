"""POST /v1/responses: OpenAI's newer way of asking, with an answer made of items."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.engine.results import Completion, Delta
from miaotui.server.answers import Service, events_of, while_connected
from miaotui.server.bodies import read
from miaotui.server.replies import KEEP_ALIVE, ending, error_body, event_stream, json_reply, named_event, shown_receipt
from miaotui.server.responses_items import Items
from miaotui.server.responses_wire import ResponsesRequest
from miaotui.server.turns import Turn


async def responses(request: Request) -> Response:
    """Answer a conversation, at once or part by part."""
    service: Service = request.app.state.service
    wire = await read(request, ResponsesRequest)
    asked = wire.asked()
    service.check_model(wire.model)
    head = _head(wire, request, service)
    start = Turn.start(asked, request, service)
    if wire.stream:
        return event_stream(_events(await while_connected(request, start), wire, service, head))
    return json_reply(await while_connected(request, _whole(start, wire, head)))


def _head(wire: ResponsesRequest, request: Request, service: Service) -> dict[str, Any]:
    """A response as it is before anything was said."""
    return {
        "id": f"resp_{request.state.request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "metadata": wire.metadata or {},
        "model": service.settings.model_name,
        "output": [],
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": wire.temperature,
        "text": wire.text or {"format": {"type": "text"}},
        "tool_choice": wire.tool_choice or "auto",
        "tools": [{"strict": False, **tool} for tool in wire.tools or ()],
        "top_p": wire.top_p,
        "truncation": "disabled",
        "usage": None,
    }


async def _whole(start: Any, wire: ResponsesRequest, head: dict[str, Any]) -> dict[str, Any]:
    turn: Turn = await start
    items = Items(turn, head["id"])
    async with aclosing(turn.answer):
        async for part in turn.answer:
            for piece in turn.read(part):
                items.add(piece)
        items.end(complete=True)
        return head | _ending(await turn.answer.whole(), items, wire)


def _is_cut(completion: Completion) -> bool:
    """Whether its limit of tokens or its deadline ended an answer."""
    return ending(completion.finish_reason) == "length"


def _ending(completion: Completion, items: Items, wire: ResponsesRequest) -> dict[str, Any]:
    """What a response says at its end beside what it said at the beginning."""
    cut = _is_cut(completion)
    receipt = completion.receipt
    if cut and items.output:
        items.output[-1]["status"] = "incomplete"
    return {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": items.output,
        "usage": {
            "input_tokens": receipt.prompt_tokens,
            "input_tokens_details": {"cached_tokens": receipt.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": receipt.output_tokens,
            "output_tokens_details": {"reasoning_tokens": items.num_reasoning_tokens},
            "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
        },
    } | shown_receipt(receipt, wire.miaotui)


async def _events(turn: Turn, wire: ResponsesRequest, service: Service, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """The answer's parts as numbered events; an error in between is one, too, and nothing follows it."""
    number = 0

    def event(body: dict[str, Any]) -> bytes:
        nonlocal number
        body, number = body | {"sequence_number": number}, number + 1
        return named_event(body)

    def say(part: Delta) -> Iterator[bytes]:
        return (event(body) for piece in turn.read(part) for body in items.add(piece))

    items = Items(turn, head["id"])
    async with aclosing(turn.answer):
        try:
            for kind in ("response.created", "response.in_progress"):
                yield event({"type": kind, "response": head})
            async with aclosing(events_of(turn.answer, say, KEEP_ALIVE, service.settings.keep_alive_s)) as events:
                async for one in events:
                    yield one
            completion = await turn.answer.whole()
            for body in items.end(complete=not _is_cut(completion)):
                yield event(body)
            last = head | _ending(completion, items, wire)
            yield event({"type": f"response.{last['status']}", "response": last})
        except Exception as error:  # the reply has begun: it can only be said in its stream
            said = error_body(error)[1]["error"]
            yield event({"type": "error", "code": said["code"], "message": said["message"], "param": said["param"]})
