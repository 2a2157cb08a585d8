"""/v1/cache and /v1/feedback: answers that are kept, why they were served, and what people say of them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from miaotui.answers.cache import AnswerCache
from miaotui.answers.entry import Entry, entry_of
from miaotui.answers.row import Row
from miaotui.answers.store import Filter
from miaotui.answers.verdict import MAX_WORDS, Feedback, Rating, give_feedback
from miaotui.answers.verdict import reject as reject_answer
from miaotui.errors import InvalidRequestError, NotKeptError
from miaotui.server.bodies import read
from miaotui.server.replies import json_reply

MOST_ENTRIES = 200


class RejectRequest(msgspec.Struct, kw_only=True):
    """POST /v1/cache/entries/{id}/reject."""

    request_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    question: Annotated[str, msgspec.Meta(max_length=MAX_WORDS)] = ""
    comment: Annotated[str, msgspec.Meta(max_length=MAX_WORDS)] = ""
    correction: Annotated[str, msgspec.Meta(max_length=MAX_WORDS)] = ""


class FeedbackRequest(msgspec.Struct, kw_only=True):
    """POST /v1/feedback."""

    request_id: Annotated[str, msgspec.Meta(max_length=200)]
    rating: Rating
    correction: str | None = None
    comment: str | None = None


def _cache(request: Request) -> AnswerCache:
    """Raises NotKeptError where no answers are kept."""
    cache: AnswerCache | None = request.app.state.service.cache
    if cache is None:
        raise NotKeptError("this server keeps no answers; `miaotui serve --cache sqlite` would.")
    return cache


async def stats(request: Request) -> Response:
    """What the cache has done since the server started, and what it holds."""
    cache: AnswerCache | None = request.app.state.service.cache
    if cache is None:
        return json_reply({"enabled": False})
    return json_reply({"enabled": True} | await cache.stats(request.state.tenant))


async def entries(request: Request) -> Response:
    """Kept answers, newest first; those that hold the words of `search`; those behind the one named by `before`."""
    cache, tenant, asked = _cache(request), request.state.tenant, request.query_params
    limit = asked.get("limit", "50")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:9]) <= MOST_ENTRIES:
        raise InvalidRequestError(f"limit must be 1 to {MOST_ENTRIES}.")
    behind: Row | None = None
    if before := asked.get("before"):
        behind = (await _entry(cache, tenant, before)).row()
    which = Filter("answer", tenant, text=asked.get("search") or None)
    rows = await cache.rows(which, limit=int(limit) + 1, behind=behind)
    shown = [_shown(entry_of(row)) for row in rows[: int(limit)]]
    return json_reply({"entries": shown, "more": len(rows) > int(limit)})


async def entry(request: Request) -> Response:
    """One kept answer."""
    return json_reply(_shown(await _entry(_cache(request), request.state.tenant, request.path_params["entry"])))


async def remove(request: Request) -> Response:
    """Forget one kept answer."""
    cache, tenant = _cache(request), request.state.tenant
    found = await _entry(cache, tenant, request.path_params["entry"])
    await cache.delete(Filter("answer", tenant, key=found.key))
    return json_reply({"removed": found.id})


async def reject(request: Request) -> Response:
    """Take a wrong answer out for good."""
    cache, tenant = _cache(request), request.state.tenant
    asked = await read(request, RejectRequest, empty=b"{}")
    found = await _entry(cache, tenant, request.path_params["entry"])
    said = {"request_id": asked.request_id, "comment": asked.comment, "correction": asked.correction}
    await reject_answer(cache, tenant, found.key, asked=asked.question, **said)
    return json_reply({"rejected": found.id})


async def why(request: Request) -> Response:
    """Why a request was answered as it was."""
    decision = await _cache(request).why(request.path_params["request_id"], request.state.tenant)
    if decision is None:
        raise NotKeptError("no request of that id is known; it may have been too long ago.")
    return json_reply(decision)


async def feedback(request: Request) -> Response:
    """What somebody says of an answer; acknowledged once it is kept."""
    asked = await read(request, FeedbackRequest)
    said = Feedback(asked.request_id, asked.rating, asked.correction or "", asked.comment or "")
    cache, tenant, service = _cache(request), request.state.tenant, request.app.state.service
    await give_feedback(cache, tenant, said, service.answered.about(tenant, asked.request_id))
    return json_reply({"kept": asked.request_id})


async def _entry(cache: AnswerCache, tenant: str, name: str) -> Entry:
    """Raises NotKeptError."""
    found = None
    if len(name) == 64 and set(name) <= set("0123456789abcdef"):
        found = await cache.entry(bytes.fromhex(name), tenant)
    if found is None:
        raise NotKeptError("no answer of that id is kept.")
    return found


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "question": entry.question,
        "answer": entry.answer,
        "origin": entry.origin,
        "created": entry.created_s,
        "expires": entry.expires_s,
        "model": entry.model[:12],
        "tags": entry.tags,
        "saved_ms": round(entry.cost_s * 1e3, 3),
        "output_tokens": entry.output_tokens,
    }
