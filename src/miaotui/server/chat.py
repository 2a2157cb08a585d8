"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.engine.async_llm import Answer
from miaotui.engine.results import Completion, Delta
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, parts_or_silence, while_connected, whole_of
from miaotui.server.replies import (
    DONE,
    KEEP_ALIVE,
    chat_logprobs,
    error_body,
    event,
    event_stream,
    json_reply,
    receipt_body,
    usage,
)
from miaotui.server.wire import ChatRequest, decode


async def chat_completions(request: Request) -> Response:
    """Answer a conversation, at once or part by part."""
    service: Service = request.app.state.service
    asked = decode(await request.body(), ChatRequest)
    if asked.response_format is not None and asked.response_format.get("type", "text") != "text":
        raise InvalidRequestError("response_format must be text: structured output is not served yet.")
    service.check(asked.model)
    start = service.llm.stream(
        asked.messages,
        asked.sampling(),
        tools=asked.tools if asked.tool_choice != "none" else None,
        tenant=request.state.tenant,
        priority=asked.priority or 0,
    )
    headers = {"x-miaotui-receipt": request.state.request_id}
    if asked.stream:
        answer = await while_connected(request, start)
        head = service.head("chat.completion.chunk", request)
        return event_stream(_events(answer, asked, service, head), headers)
    completion = await while_connected(request, whole_of(start))
    choices = [_choice(i, one, service) for i, one in enumerate((completion, *completion.others))]
    body = service.head("chat.completion", request) | {"choices": choices, "usage": usage([completion])}
    if asked.miaotui:
        body["miaotui"] = receipt_body(completion.receipt)
    return json_reply(body, headers=headers)


def _choice(index: int, completion: Completion, service: Service) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": completion.text},
        "logprobs": chat_logprobs(completion.logprobs, service.llm.llm.tokenizer.token_bytes),
        "finish_reason": completion.finish_reason,
    }


async def _events(answer: Answer, asked: ChatRequest, service: Service, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """The answer's parts as OpenAI's chunks; an error in between is an event, too, and nothing follows it."""
    more = {"usage": None} if asked.wants_usage else {}
    async with aclosing(answer):
        try:
            for index in range(asked.n or 1):
                yield event(head | {"choices": [_chunk(index, {"role": "assistant", "content": ""})]} | more)
            async with aclosing(parts_or_silence(answer, service.settings.keep_alive_s)) as parts:
                async for part in parts:
                    for body in _bodies(part, service):
                        yield event(head | {"choices": [body]} | more)
                    if part is None:
                        yield KEEP_ALIVE
            completion = answer.completion
            if completion is not None and (asked.wants_usage or asked.miaotui):
                last = head | {"choices": [], "usage": usage([completion])}
                if asked.miaotui:
                    last["miaotui"] = receipt_body(completion.receipt)
                yield event(last)
            yield DONE
        except Exception as error:  # the reply has begun: it can only be said in its stream
            yield event(error_body(error)[1])


def _bodies(part: Delta | None, service: Service) -> list[dict[str, Any]]:
    """A part's text as one chunk, its end as another."""
    if part is None:
        return []
    bodies = []
    if part.text or part.logprobs:
        logprobs = chat_logprobs(part.logprobs, service.llm.llm.tokenizer.token_bytes)
        bodies.append(_chunk(part.index, {"content": part.text}, logprobs=logprobs))
    if part.finish_reason is not None:
        bodies.append(_chunk(part.index, {"content": ""}, finish_reason=part.finish_reason))
    return bodies


def _chunk(index: int, delta: dict[str, Any], *, logprobs: Any = None, finish_reason: str | None = None) -> Any:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
