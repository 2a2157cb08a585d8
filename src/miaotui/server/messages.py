"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's way of asking for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from miaotui.core import SamplingParams
from miaotui.engine.async_llm import Answer
from miaotui.engine.results import Completion
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, parts_or_silence, while_connected, whole_of
from miaotui.server.replies import encode, error_body, event_stream, json_reply
from miaotui.server.wire import decode

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class CountRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens."""

    messages: list[dict[str, Any]]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as chat templates want them. Raises InvalidRequestError for content that is no text."""
        if self.tools:
            raise InvalidRequestError("tools must be empty: tool use is not served yet at this address.")
        start = [] if self.system is None else [{"role": "system", "content": _text_of(self.system)}]
        return start + [{**message, "content": _text_of(message.get("content"))} for message in self.messages]


class MessagesRequest(CountRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def sampling(self) -> SamplingParams:
        """As the engine takes them."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "stop": self.stop_sequences}
        return SamplingParams(max_tokens=self.max_tokens, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequestError("content must be a text or a list of blocks.")
    parts = []
    for block in content:
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise InvalidRequestError("content must hold blocks of type text; this model reads nothing else.")
        parts.append(block["text"])
    return "\n".join(parts)


async def count_tokens(request: Request) -> Response:
    """How many tokens a conversation is for this model."""
    service: Service = request.app.state.service
    asked = decode(await request.body(), CountRequest)
    service.check_model(asked.model)
    ids = await asyncio.to_thread(service.llm.llm.encode_chat, asked.conversation())
    return json_reply({"input_tokens": len(ids)})


async def messages(request: Request) -> Response:
    """Answer a conversation, at once or part by part."""
    service: Service = request.app.state.service
    asked = decode(await request.body(), MessagesRequest)
    service.check(asked.model)
    start = service.llm.stream(asked.conversation(), asked.sampling(), tenant=request.state.tenant)
    headers = {"x-miaotui-receipt": request.state.request_id, "request-id": request.state.request_id}
    head = {
        "id": f"msg_{request.state.request_id}",
        "type": "message",
        "role": "assistant",
        "model": service.settings.model_name,
    }
    if asked.stream:
        return event_stream(_events(await while_connected(request, start), service, head), headers)
    completion = await while_connected(request, whole_of(start))
    body = head | {"content": [{"type": "text", "text": completion.text}], **_ending(completion)}
    return json_reply(body | {"usage": _usage(completion)}, headers=headers)


def _ending(completion: Completion) -> dict[str, Any]:
    """Why it ended, in Anthropic's words."""
    at = completion.stop_reason
    if completion.finish_reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
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


def _event(body: dict[str, Any]) -> bytes:
    return f"event: {body['type']}\n".encode() + b"data: " + encode(body) + b"\n\n"


async def _events(answer: Answer, service: Service, head: dict[str, Any]) -> AsyncIterator[bytes]:
    """One block of text as Anthropic's events."""
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    async with aclosing(answer):
        try:
            counts = {"input_tokens": answer.num_prompt_tokens, "output_tokens": 0}
            yield _event({"type": "message_start", "message": head | empty | {"usage": counts}})
            yield _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            async with aclosing(parts_or_silence(answer, service.settings.keep_alive_s)) as parts:
                async for part in parts:
                    if part is None:
                        yield PING
                    elif part.text:
                        delta = {"type": "text_delta", "text": part.text}
                        yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
            yield _event({"type": "content_block_stop", "index": 0})
            completion = answer.completion
            if completion is not None:
                yield _event({"type": "message_delta", "delta": _ending(completion), "usage": _usage(completion)})
            yield _event({"type": "message_stop"})
        except Exception as error:  # the reply has begun: it can only be said in its stream
            yield _event(error_body(error, "/v1/messages")[1])
