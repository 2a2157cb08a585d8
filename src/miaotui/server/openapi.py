"""The OpenAPI document: the route table, the docstrings of handlers, and the structs that requests are read into."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from miaotui import __version__
from miaotui.server.guard import OPEN_PATHS
from miaotui.server.kept import FeedbackRequest, RejectRequest
from miaotui.server.messages_wire import CountRequest, MessagesRequest
from miaotui.server.responses_wire import ResponsesRequest
from miaotui.server.wire import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingsRequest,
    TokenizeRequest,
)

BODIES: dict[str, type[msgspec.Struct]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/embeddings": EmbeddingsRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountRequest,
    "/v1/cache/entries/{entry}/reject": RejectRequest,
    "/v1/feedback": FeedbackRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}
"""What is sent to each route that is sent something."""

QUERIES = {"/v1/cache/entries": (("search", "string"), ("before", "string"), ("limit", "integer"))}
"""What routes read from behind the question mark."""

HEADERS: dict[str, Any] = {
    "x-miaotui-receipt": {
        "description": "The request's id, of which the log and, where a model was asked and answers are kept, "
        "/v1/cache/why tell more. `none` where the connection was refused before a request had been read: "
        "nothing was written down then. What an answer cost stands in its field `miaotui`, where the request has "
        "`miaotui` true; errors, and replies that no model had a part in, have no such field.",
        "schema": {"type": "string"},
    },
    "x-request-id": {
        "description": "The same id; the client's own where it sent a harmless one under this name.",
        "schema": {"type": "string"},
    },
}
"""What every reply begins with."""

_NAMED = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
_REF = "#/components/schemas/{name}"
_PLAIN_TEXT = frozenset({"/metrics"})


class ErrorDetail(msgspec.Struct):
    """What went wrong, of what kind it is, and which field of the request it is about."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(msgspec.Struct):
    """Every error; under /v1/messages in Anthropic's form, which has `type` on top and neither param nor code."""

    error: ErrorDetail


def document(routes: Iterable[tuple[str, str, Callable[..., Any]]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes: (method, path in Starlette's form, handler)."""
    _, schemas = msgspec.json.schema_components([*BODIES.values(), Error], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in routes:
        shown = path.replace("{name:path}", "{name}")
        paths.setdefault(shown, {})[method.lower()] = _operation(path, handler)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "miaotui",
            "version": __version__,
            "description": "Answers of a language model, in the OpenAI and Anthropic APIs' words.",
        },
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(path: str, handler: Callable[..., Any]) -> dict[str, Any]:
    text = inspect.getdoc(handler) or ""
    operation: dict[str, Any] = {
        "operationId": handler.__name__,
        "summary": text.partition("\n")[0],
        "description": text,
        "responses": {
            "200": {"description": "The answer.", "headers": _NAMED, "content": _content(path)},
            "default": {
                "description": "Why there is none.",
                "headers": _NAMED,
                "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
            },
        },
    }
    if path in OPEN_PATHS:
        operation["security"] = []
    names = re.findall(r"\{(\w+)", path)
    where = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    asked = [{"name": name, "in": "query", "schema": {"type": kind}} for name, kind in QUERIES.get(path, ())]
    if where or asked:
        operation["parameters"] = where + asked
    if (body := BODIES.get(path)) is not None:
        schema = {"$ref": _REF.format(name=body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _content(path: str) -> dict[str, Any]:
    if path == "/":
        return {"text/html": {"schema": {"type": "string"}}}
    if path.startswith("/page/"):
        return {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    if path in _PLAIN_TEXT:
        return {"text/plain": {"schema": {"type": "string"}}}
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in getattr(BODIES.get(path), "__struct_fields__", ()):
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content
