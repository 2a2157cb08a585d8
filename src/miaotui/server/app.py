"""The ASGI application: routes, errors, the engine's life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from miaotui.adaptive.planner import Planner
from miaotui.answers.cache import AnswerCache, opened
from miaotui.engine.async_embedder import AsyncEmbedder
from miaotui.engine.async_llm import AsyncLLM
from miaotui.errors import DeadlineError, MiaotuiError, OverloadedError
from miaotui.server import chat, completions, dashboard, embeddings, facts, kept, messages, page, responses
from miaotui.server.answers import ClientGoneError, Service
from miaotui.server.asking import Asker
from miaotui.server.guard import Guard
from miaotui.server.ledger import Ledger, current
from miaotui.server.metrics import Metrics
from miaotui.server.openapi import document
from miaotui.server.planning import Learner, Planning, SmallCosts
from miaotui.server.rate_limits import RateLimits
from miaotui.server.replies import error_reply, plain_error
from miaotui.server.settings import ServerSettings
from miaotui.server.supervisor import warm_up

if TYPE_CHECKING:
    from miaotui.adaptive.cascade.gate import Gate
    from miaotui.server.cascading import Cascading

ROUTES = (
    ("POST", "/v1/chat/completions", chat.chat_completions),
    ("POST", "/v1/completions", completions.completions),
    ("POST", "/v1/responses", responses.responses),
    ("POST", "/v1/messages", messages.messages),
    ("POST", "/v1/messages/count_tokens", messages.count_tokens),
    ("POST", "/v1/embeddings", embeddings.embeddings),
    ("GET", "/v1/models", facts.models),
    ("GET", "/v1/models/{name:path}", facts.model),
    ("GET", "/v1/cache/stats", kept.stats),
    ("GET", "/v1/cache/entries", kept.entries),
    ("GET", "/v1/cache/entries/{entry}", kept.entry),
    ("DELETE", "/v1/cache/entries/{entry}", kept.remove),
    ("POST", "/v1/cache/entries/{entry}/reject", kept.reject),
    ("GET", "/v1/cache/why/{request_id}", kept.why),
    ("POST", "/v1/feedback", kept.feedback),
    ("GET", "/v1/dashboard", dashboard.dashboard),
    ("POST", "/tokenize", facts.tokenize),
    ("POST", "/detokenize", facts.detokenize),
    ("GET", "/health", facts.health),
    ("GET", "/ready", facts.ready),
    ("GET", "/metrics", facts.metrics),
    ("GET", "/openapi.json", facts.openapi),
    ("GET", "/", page.front_page),
    ("GET", "/page/{name:path}", page.page_file),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Before:
    """A model that is asked before the served one. open: called on the running loop; takes turns with that one's
    steps. gate: which of its answers suffice."""

    open: Callable[[], AsyncLLM]
    gate: Gate


def create_app(
    open_llm: Callable[[], AsyncLLM] | None,
    settings: ServerSettings,
    write: Callable[[str], None] | None = None,
    *,
    open_embedder: Callable[[], AsyncEmbedder] | None = None,
    cache: AnswerCache | None = None,
    num_lines_dropped: Callable[[], int] = lambda: 0,
    before: Before | None = None,
) -> Guard:
    """The application. What opens the models is called on the running loop, when the server starts.

    write: takes log lines. open_llm, open_embedder: None where nothing writes text, or nothing makes embeddings.
    cache: answers that are kept; opened and closed with the server. num_lines_dropped: log lines that found no room.
    before: a small model that is asked first.
    """
    limits = RateLimits(settings)
    metrics = Metrics()
    metrics.num_log_lines_dropped = num_lines_dropped
    planner = Planner(adaptive=settings.planning == "adaptive")
    ledger = Ledger(settings, metrics, write, limits.spend, planner)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(open_embedder()) if open_embedder is not None else None
            llm = await stack.enter_async_context(open_llm()) if open_llm is not None else None
            asker, small, model = None, None, ""
            if llm is not None:
                model = "" if cache is None else await asyncio.to_thread(llm.llm.fingerprint)
                if cache is not None and embedder is not None and settings.near == "guarded":
                    spec = embedder.embedder.file.spec
                    cache.use_near(settings.near_delta, spec.name, partial(embedder.embed, truncate=False), model)
                await stack.enter_async_context(opened(cache))
                await warm_up(llm, Learner(planner))
                near_quality = 1.0 - settings.near_delta if cache is not None and cache.has_near else None
                planning = Planning(planner, llm.llm.context_length, near_quality, settings.policies)
                cascading = None
                if before is not None:
                    small = await stack.enter_async_context(before.open())
                    cascading = await _cascading(small, llm, before.gate, planning, ledger)
                asker = Asker(llm, cache, model, ledger, planning, cascading)
            service = app.state.service = Service(
                llm, settings, ledger, asker=asker, embedder=embedder, model=model, small=small
            )
            watches = [asyncio.create_task(one.run()) for one in service.supervisors]
            yield
            for watch in watches:
                watch.cancel()

    app = Starlette(
        routes=[Route(path, handler, methods=[method]) for method, path, handler in ROUTES],
        lifespan=life,
        exception_handlers={
            MiaotuiError: _known,
            ClientGoneError: _gone,
            ClientDisconnect: _gone,
            HTTPException: _http,
            Exception: _unknown,
        },
    )
    app.state.openapi = document(ROUTES)
    return Guard(app, settings, ledger, limits, {handler: path for _, path, handler in ROUTES})


async def _cascading(small: AsyncLLM, llm: AsyncLLM, gate: Gate, planning: Planning, ledger: Ledger) -> Cascading:
    """How the small model is asked, which is warm and knows how long its steps take."""
    from miaotui.server.cascading import Cascading  # needed by few

    costs = SmallCosts()
    await warm_up(small, Learner(costs.planner))
    return await asyncio.to_thread(Cascading, small, llm, gate, planning, costs, ledger)


async def _known(request: Request, error: Exception) -> Response:
    _note(error)
    if isinstance(error, DeadlineError):
        request.app.state.service.metrics.refused_deadline()
    if isinstance(error, OverloadedError):
        request.app.state.service.metrics.rejected.labels(error.what).inc()
    return error_reply(error, request.url.path)


def _note(error: Exception) -> None:
    entry = current.get()
    if entry is not None:
        entry.error = entry.error or type(error).__name__


async def _gone(request: Request, error: Exception) -> Response:
    _note(error)
    return Response(status_code=499)  # nobody reads it


async def _http(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    text = "there is nothing at this address." if status == 404 else str(getattr(error, "detail", error))
    return plain_error(status, text, request.url.path, dict(getattr(error, "headers", None) or {}))


async def _unknown(request: Request, error: Exception) -> Response:
    _note(error)
    log.error("request %s failed", getattr(request.state, "request_id", "?"), exc_info=error)
    return error_reply(error, request.url.path)
