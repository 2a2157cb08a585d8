"""What the server sends: JSON, event streams, errors in the client's own form."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from miaotui.core import Receipt
from miaotui.engine.results import Completion, TokenLogprob
from miaotui.errors import (
    BodyTooLargeError,
    CapacityError,
    ChatTemplateError,
    ContextLengthError,
    DeadlineError,
    EngineStoppedError,
    InvalidRequestError,
    MiaotuiError,
    ModelNotFoundError,
    NotKeptError,
    OverloadedError,
    RateLimitError,
    StoreError,
    TokenizerError,
    UnauthorizedError,
    UnknownRequestError,
)

encode = msgspec.json.encode

_STATUS: tuple[tuple[type[Exception], int, str, str | None], ...] = (
    (BodyTooLargeError, 413, "invalid_request_error", None),
    (ContextLengthError, 400, "invalid_request_error", "context_length_exceeded"),
    (CapacityError, 400, "invalid_request_error", "capacity_exceeded"),
    (DeadlineError, 422, "invalid_request_error", "deadline_cannot_be_met"),
    (UnknownRequestError, 404, "invalid_request_error", "unknown_request"),
    (InvalidRequestError, 400, "invalid_request_error", None),
    (ChatTemplateError, 400, "invalid_request_error", None),
    (TokenizerError, 400, "invalid_request_error", None),
    (UnauthorizedError, 401, "authentication_error", "invalid_api_key"),
    (ModelNotFoundError, 404, "invalid_request_error", "model_not_found"),
    (NotKeptError, 404, "invalid_request_error", "not_found"),
    (StoreError, 503, "server_error", "store_down"),
    (RateLimitError, 429, "rate_limit_error", "rate_limit_exceeded"),
    (OverloadedError, 429, "rate_limit_error", "overloaded"),
    (EngineStoppedError, 503, "server_error", "engine_stopped"),
    (MiaotuiError, 500, "server_error", None),
)
RETRY_AFTER_S = 1
STOPPED = "the engine has stopped; try again in a moment."


def json_reply(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Anything msgspec can encode."""
    return Response(encode(body), status, headers, "application/json")


async def built(make: Callable[[], Any], *, is_long: bool) -> Response:
    """A reply of what `make` returns; where that is long and takes a while to put together, in a thread."""

    def reply() -> Response:
        return json_reply(make())

    return await asyncio.to_thread(reply) if is_long else reply()


def plain_error(status: int, message: str, path: str, headers: dict[str, str] | None = None) -> Response:
    """An error that has no type of ours."""
    return json_reply(_in_form(path, status, message, "invalid_request_error"), status=status, headers=headers)


def error_body(error: Exception, path: str = "") -> tuple[int, dict[str, Any]]:
    """Status and body for an error, in the form of the path's protocol; nothing of an unexpected one is shown."""
    for kind, status, name, code in _STATUS:
        if isinstance(error, kind):
            text = STOPPED if kind is EngineStoppedError else str(error)  # why it did is nobody's business
            body = _in_form(path, status, text, name, _param(error), code)
            if isinstance(error, DeadlineError):
                body["error"] |= _fits(error)
            return status, body
    return 500, _in_form(path, 500, "the server failed to answer; its log says why.", "server_error")


def _fits(error: DeadlineError) -> dict[str, Any]:
    """What programs need to ask for something that is in time."""
    figures = {"predicted_ms": round(error.predicted_ms, 1), "deadline_ms": error.deadline_ms}
    return figures | {"fits_max_tokens": error.fits_tokens}


def error_reply(error: Exception, path: str = "") -> Response:
    """The same as a reply; a client that may try again is told when."""
    status, body = error_body(error, path)
    retry_s = getattr(error, "retry_after_s", RETRY_AFTER_S)
    headers = {"retry-after": str(retry_s)} if status in (429, 503) else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_reply(body, status=status, headers=headers)


def names_of(request_id: str | None) -> list[tuple[bytes, bytes]]:
    """The headers that name a request, if one has begun: in the log it is found by them."""
    if request_id is None:
        return [(b"x-miaotui-receipt", b"none")]
    name = request_id.encode()
    return [(b"x-request-id", name), (b"x-miaotui-receipt", name)]


_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def _in_form(
    path: str, status: int, message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """Anthropic's form under its path, OpenAI's everywhere else."""
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": message}}
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _param(error: Exception) -> str | None:
    """The field that a message of ours or of msgspec's names."""
    named = re.search(r"`\$\.([a-z_]+)", str(error)) or re.match(
        r"([a-z]+(?:_[a-z]+)*)(?: (?:must|needs|holds|names|cannot|took|takes)|:)", str(error)
    )
    return named[1] if named else None


def ending(reason: str | None) -> str | None:
    """Why an answer ended, in words that OpenAI's clients know; its receipt tells a deadline from a limit of tokens."""
    return "length" if reason == "deadline" else reason


def event(body: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + encode(body) + b"\n\n"


def named_event(body: dict[str, Any]) -> bytes:
    """One event of a stream, under the name that its body has as "type"."""
    return f"event: {body['type']}\n".encode() + event(body)


DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": still reading the prompt\n\n"


def event_stream(events: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> StreamingResponse:
    """A reply of events that no proxy holds back."""
    more = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, headers={**(headers or {}), **more}, media_type="text/event-stream")


def usage(completions: list[Completion]) -> dict[str, Any]:
    """Counts of tokens over the requests' completions; a prompt counts once."""
    receipts = [c.receipt for c in completions]
    prompt = sum(r.prompt_tokens for r in receipts)
    output = sum(
        r.output_tokens + sum(o.receipt.output_tokens for o in c.others)
        for r, c in zip(receipts, completions, strict=True)
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": sum(r.cached_tokens for r in receipts)},
    }


def receipt_body(receipt: Receipt) -> dict[str, Any]:
    """A receipt as clients see it; times in milliseconds."""
    return {
        "path": receipt.path,
        "why": receipt.why,
        "cached_tokens": receipt.cached_tokens,
        "forced_tokens": receipt.forced_tokens,
        "drafted_tokens": receipt.drafted_tokens,
        "accepted_tokens": receipt.accepted_tokens,
        "queue_ms": round(receipt.queue_s * 1e3, 3),
        "prefill_ms": round(receipt.prefill_s * 1e3, 3),
        "decode_ms": round(receipt.decode_s * 1e3, 3),
        "seed": receipt.seed,
        "saved_ms": round(receipt.saved_s * 1e3, 3),
        "entry": receipt.entry,
        "matched": receipt.matched,
        "similarity": receipt.similarity,
        "guards": receipt.guards,
        "plan": receipt.planned,
        "stages": [asdict(stage) for stage in receipt.stages],
    }


def shown_receipt(receipt: Receipt, is_asked: bool | None) -> dict[str, Any]:
    """The field of a reply that holds the receipt, for those who ask for it."""
    return {"miaotui": receipt_body(receipt)} if is_asked else {}


def chat_logprobs(entries: tuple[TokenLogprob, ...] | None, token_bytes: Any) -> dict[str, Any] | None:
    """OpenAI's `logprobs` of a chat choice. token_bytes: from a token id to its bytes."""
    if entries is None:
        return None
    content = []
    for entry in entries:
        top = [_scored(token, value, token_bytes) for token, value in entry.top]
        content.append({**_scored(entry.token_id, entry.logprob, token_bytes), "top_logprobs": top})
    return {"content": content}


def _scored(token_id: int, logprob: float, token_bytes: Any) -> dict[str, Any]:
    raw: bytes = token_bytes(token_id)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}
