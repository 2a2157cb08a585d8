"""GET /v1/models, /health, /ready, /metrics, /openapi.json; POST /tokenize, /detokenize."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from miaotui.engine.encoding_line import num_characters
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, while_connected
from miaotui.server.bodies import read
from miaotui.server.replies import json_reply
from miaotui.server.wire import DetokenizeRequest, TokenizeRequest


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def models(request: Request) -> Response:
    """The models that are served: the one that writes text, and the one that makes embeddings."""
    service = _service(request)
    return json_reply({"object": "list", "data": [_model(service, name) for name in service.model_names]})


async def model(request: Request) -> Response:
    """The same by name."""
    service, name = _service(request), request.path_params["name"]
    if name not in service.model_names:
        raise service.unknown(name)
    return json_reply(_model(service, name))


def _model(service: Service, name: str) -> dict[str, object]:
    writes = service.has_llm and name == service.settings.model_name
    if writes or service.embedder is None:
        task, length = "generate", service.llm.llm.context_length
    else:
        task, length = "embed", service.embedder.embedder.max_tokens
    facts = {"id": name, "object": "model", "created": service.created, "owned_by": "miaotui"}
    return {**facts, "max_model_len": length, "task": task}


async def tokenize(request: Request) -> Response:
    """Token ids of a text or a conversation, as a completion would read them."""
    service = _service(request)
    llm = service.llm.llm
    asked = await read(request, TokenizeRequest)
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequestError("give either prompt or messages.")

    def encode() -> list[int]:
        if asked.messages is not None:
            return llm.encode_chat(asked.messages)
        special = asked.add_special_tokens
        return llm.tokenizer.encode(asked.prompt or "", add_special=special, parse_special=True)

    num_chars = num_characters((asked.prompt, asked.messages))
    ids = await while_connected(request, service.llm.encoding.run(encode, num_chars, request.state.tenant))
    return json_reply({"tokens": ids, "count": len(ids), "max_model_len": llm.context_length})


async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    service = _service(request)
    tokens = (await read(request, DetokenizeRequest)).tokens
    tokenizer = service.llm.llm.tokenizer
    work = service.llm.encoding.run(
        lambda: tokenizer.decode(tokens, skip_special=False), len(tokens), request.state.tenant
    )
    return json_reply({"prompt": await while_connected(request, work)})


async def health(request: Request) -> Response:
    """200 while steps end in time; a step that hangs, or an engine that has ended, is 503."""
    service = _service(request)
    problem = service.problem()
    stalled_s = service.llm.stalled_s if service.has_llm else 0.0
    body = {"status": problem or "ok", "stalled_s": round(stalled_s, 3)}
    return json_reply(body, status=200 if problem is None else 503)


async def ready(request: Request) -> Response:
    """200 while new requests are welcome: neither when the engine is not well nor when the server is about to end."""
    service = _service(request)
    problem = "closing" if service.closing else service.problem()
    return json_reply({"status": problem or "ready"}, status=200 if problem is None else 503)


async def metrics(request: Request) -> Response:
    """Everything that is counted, in Prometheus' format."""
    return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")


async def openapi(request: Request) -> Response:
    """This server's routes and what they are sent, as an OpenAPI document."""
    return json_reply(request.app.state.openapi)
