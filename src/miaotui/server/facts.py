"""GET /v1/models, /health, /ready, /metrics, /openapi.json; POST /tokenize, /detokenize."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service
from miaotui.server.replies import json_reply
from miaotui.server.wire import DetokenizeRequest, EmbeddingsRequest, TokenizeRequest, decode


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def models(request: Request) -> Response:
    """The one model that is served."""
    return json_reply({"object": "list", "data": [_model(_service(request))]})


async def model(request: Request) -> Response:
    """The same by name."""
    service, name = _service(request), request.path_params["name"]
    if name != service.settings.model_name:
        raise service.unknown(name)
    return json_reply(_model(service))


def _model(service: Service) -> dict[str, object]:
    return {
        "id": service.settings.model_name,
        "object": "model",
        "created": service.created,
        "owned_by": "miaotui",
        "max_model_len": service.llm.llm.context_length,
    }


async def embeddings(request: Request) -> Response:
    """Refused: the model that is served writes text, and makes no embeddings."""
    name = _service(request).settings.model_name
    asked = decode(await request.body(), EmbeddingsRequest)
    if isinstance(asked.input, list) and not all(isinstance(item, str) for item in asked.input):
        raise InvalidRequestError(
            "input must be text: token ids of another model mean nothing here. LangChain sends them unless "
            "OpenAIEmbeddings is given check_embedding_ctx_length=False."
        )
    raise InvalidRequestError(f"model {name!r} writes text; this server makes no embeddings, so ask one that does.")


async def tokenize(request: Request) -> Response:
    """Token ids of a text or a conversation, as a completion would read them."""
    llm = _service(request).llm.llm
    asked = decode(await request.body(), TokenizeRequest)
    if (asked.prompt is None) == (asked.messages is None):
        raise InvalidRequestError("give either prompt or messages.")
    if asked.messages is not None:
        ids = await asyncio.to_thread(llm.encode_chat, asked.messages)
    else:
        special = asked.add_special_tokens
        ids = await asyncio.to_thread(llm.tokenizer.encode, asked.prompt or "", add_special=special, parse_special=True)
    return json_reply({"tokens": ids, "count": len(ids), "max_model_len": llm.context_length})


async def detokenize(request: Request) -> Response:
    """The text of token ids."""
    llm = _service(request).llm.llm
    asked = decode(await request.body(), DetokenizeRequest)
    return json_reply({"prompt": await asyncio.to_thread(llm.tokenizer.decode, asked.tokens, skip_special=False)})


async def health(request: Request) -> Response:
    """200 while steps end in time; a step that hangs, or an engine that has ended, is 503."""
    service = _service(request)
    problem = service.supervisor.problem()
    body = {"status": problem or "ok", "stalled_s": round(service.llm.stalled_s, 3)}
    return json_reply(body, status=200 if problem is None else 503)


async def ready(request: Request) -> Response:
    """200 while new requests are welcome: neither when the engine is not well nor when the server is about to end."""
    service = _service(request)
    problem = "closing" if service.closing else service.supervisor.problem()
    return json_reply({"status": problem or "ready"}, status=200 if problem is None else 503)


async def metrics(request: Request) -> Response:
    """Everything that is counted, in Prometheus' format."""
    return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")


async def openapi(request: Request) -> Response:
    """This server's routes and what they are sent, as an OpenAPI document."""
    return json_reply(request.app.state.openapi)
