"""GET /v1/models, /health, /ready, /metrics; POST /tokenize, /detokenize."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service
from miaotui.server.replies import json_reply
from miaotui.server.wire import DetokenizeRequest, TokenizeRequest, decode


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
    return json_reply({"prompt": llm.tokenizer.decode(asked.tokens, skip_special=False)})


async def health(request: Request) -> Response:
    """200 while steps end in time; a step that hangs, or an engine that has ended, is 503."""
    service = _service(request)
    stalled_s = service.llm.stalled_s
    well = service.llm.is_alive and stalled_s < service.settings.stalled_s
    return json_reply(
        {"status": "ok" if well else "failed", "stalled_s": round(stalled_s, 3)}, status=200 if well else 503
    )


async def ready(request: Request) -> Response:
    """200 while new requests are welcome: not when the server is about to end."""
    open_for_more = _service(request).llm.is_alive and not request.app.state.closing
    return json_reply({"status": "ready" if open_for_more else "closing"}, status=200 if open_for_more else 503)


async def metrics(request: Request) -> Response:
    """Everything that is counted, in Prometheus' format."""
    return Response(_service(request).metrics.text(), media_type="text/plain; version=0.0.4")
