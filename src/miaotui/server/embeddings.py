"""POST /v1/embeddings: vectors of texts, in the OpenAI API's words."""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from miaotui.core import Receipt
from miaotui.engine.async_embedder import Embedded
from miaotui.errors import InvalidRequestError
from miaotui.server.answers import Service, while_connected
from miaotui.server.bodies import read
from miaotui.server.replies import built, shown_receipt
from miaotui.server.wire import EmbeddingsRequest

FORMATS = ("float", "base64")


async def embeddings(request: Request) -> Response:
    """Vectors of unit length, one for each text, as numbers or as base64 of little-endian float32."""
    service: Service = request.app.state.service
    asked = await read(request, EmbeddingsRequest)
    texts = asked.texts()
    if service.embedder is None:
        raise InvalidRequestError(
            f"model {service.settings.model_name!r} writes text; this server makes no embeddings. "
            "Start it with --embed-model minilm, or ask one that does."
        )
    if asked.model is not None and asked.model not in ("", "default", service.embed_model_name):
        raise service.unknown(asked.model)
    form = asked.encoding_format or "float"
    if form not in FORMATS:
        raise InvalidRequestError(f"encoding_format must be {' or '.join(FORMATS)}, not {form[:40]!r}.")
    work = service.embedder.embed_counted(texts, dimensions=asked.dimensions, truncate=asked.truncate is True)
    embedded = await while_connected(request, work)
    service.ledger.embedded(len(texts), embedded.num_tokens)
    head = {"object": "list", "model": service.embed_model_name} | shown_receipt(_receipt(embedded), asked.miaotui)
    return await built(partial(_body, embedded, form, head), is_long=True)


def _receipt(embedded: Embedded) -> Receipt:
    """What the vectors cost: reading the texts is all that is done."""
    return Receipt("model", "", embedded.num_tokens, 0, 0, embedded.queue_s, embedded.read_s, 0.0, 0)


def _body(embedded: Embedded, form: str, head: dict[str, Any]) -> dict[str, Any]:
    if form == "base64":
        rows: list[Any] = [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in embedded.vectors]
    else:
        rows = embedded.vectors.tolist()
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    usage = {"prompt_tokens": embedded.num_tokens, "total_tokens": embedded.num_tokens}
    return head | {"data": data, "usage": usage}
