"""What every request must pass before a route sees it: size, host, origin, key."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from miaotui.errors import BodyTooLargeError, RateLimitError, UnauthorizedError
from miaotui.server import page
from miaotui.server.answers import Service
from miaotui.server.body_budget import BodyBudget, BodyShare
from miaotui.server.keys import ApiKey
from miaotui.server.ledger import Entry, Ledger
from miaotui.server.rate_limits import RateLimits
from miaotui.server.replies import error_reply, names_of, plain_error
from miaotui.server.settings import ServerSettings

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/health", "/ready"}) | page.PATHS
"""Answered without a key: they tell whether the server lives, and what the page is made of everywhere."""


class Guard:
    """ASGI middleware around the whole application; unknown paths are refused without a key like all others."""

    def __init__(
        self,
        app: Starlette,
        settings: ServerSettings,
        ledger: Ledger,
        limits: RateLimits,
        routes: Mapping[object, str],
    ) -> None:
        self._app = app
        self._limits = limits
        self._settings = settings
        self.ledger = ledger
        self._routes = routes
        self.bodies = BodyBudget(settings.most_bodies_bytes)

    @property
    def service(self) -> Service | None:
        """What the application works with; None before it has started."""
        service: Service | None = getattr(self._app.state, "service", None)
        return service

    def close(self) -> None:
        """The server is about to end: it is not ready any more."""
        if self.service is not None:
            self.service.closing = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on with its tenant and id in the scope's state; write down what came of it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        path = re.sub("/{2,}", "/", scope["path"])  # a base URL with a slash at its end makes two
        scope = {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogatepass")}
        headers = Headers(scope=scope)
        entry = self.ledger.open(scope["method"], path, headers.get("x-request-id", ""))
        scope.setdefault("state", {}).update(request_id=entry.request_id, entry=entry)
        noting = _noting(send, entry)
        try:
            await self._answer(scope, headers, entry, receive, noting)
        except BaseException as error:
            entry.error = entry.error or type(error).__name__
            if entry.status or not isinstance(error, Exception):  # the application has answered, or everything ends
                raise
            log.error("request %s failed", entry.request_id, exc_info=error)
            await error_reply(error, path)(scope, receive, noting)
        finally:
            entry.route = self._routes.get(scope.get("endpoint"), "other")
            self.ledger.close(entry)

    async def _answer(self, scope: Scope, headers: Headers, entry: Entry, receive: Receive, send: Send) -> None:
        path = scope["path"]
        refusal = self._refusal_of_host(path, headers) or self._refusal_of_size(path, headers)
        if refusal is None:
            try:
                key = self._key_of(path, headers)
                if key is not None:
                    entry.tenant, entry.key_name = key.tenant, key.name
                if scope["method"] == "POST":
                    send = self._with_limits(send, entry.tenant)
                    self._limits.admit(entry.tenant)
            except (UnauthorizedError, RateLimitError) as error:
                entry.error = type(error).__name__
                self.ledger.metrics.rejected.labels(getattr(error, "what", "unauthorized")).inc()
                refusal = error_reply(error, path)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        scope["state"]["tenant"] = entry.tenant
        with self.bodies.share() as share:
            await self._app(scope, self._bounded(receive, share), send)

    def _key_of(self, path: str, headers: Headers) -> ApiKey | None:
        """The key of who asks; None where nobody needs one. Raises UnauthorizedError."""
        if not self._settings.keys or path in OPEN_PATHS:
            return None
        given = _key(headers)
        key = self._settings.find_key(given)
        if key is None:
            named = "is not known" if given else "is missing: send it as `Authorization: Bearer KEY`"
            raise UnauthorizedError(f"the API key {named}.")
        return key

    def _with_limits(self, send: Send, tenant: str) -> Send:
        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._limits.headers(tenant)]
            await send(message)

        return send_with_limits

    def _refusal_of_host(self, path: str, headers: Headers) -> Any:
        """Pages of other sites must not use the visitor's browser to get here (DNS rebinding, forged requests)."""
        names = self._settings.local | self._settings.host_names
        host = _name_of(f"//{headers.get('host', '')}")
        if host not in names:
            text = f"the host {host[:100]!r} is not served here; `miaotui serve --host-name` allows it."
            return plain_error(421, text, path)
        origin = headers.get("origin")
        if origin is not None and _name_of(origin) not in names:
            text = "requests from pages of other sites are not answered."
            return plain_error(403, text, path)
        return None

    def _refusal_of_size(self, path: str, headers: Headers) -> Any:
        if sum(len(name) + len(value) + 4 for name, value in headers.raw) > self._settings.max_header_bytes:
            return plain_error(431, "the request's headers are too long.", path)  # h11 bounds only what comes in pieces
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            return error_reply(self._too_large(), path)
        return None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the body is longer than {self._settings.max_body_bytes} bytes.")

    def _bounded(self, receive: Receive, share: BodyShare) -> Receive:
        async def receive_bounded() -> Message:
            message = await receive()
            num_bytes = len(message.get("body", b""))
            if share.num_bytes + num_bytes > self._settings.max_body_bytes:
                raise self._too_large()
            share.add(num_bytes)
            return message

        return receive_bounded


def _noting(send: Send, entry: Entry) -> Send:
    """Sends what it is given, with the request's id on top and as its receipt, and notes the status."""

    async def send_noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            if not entry.status:  # else the connection has answered
                entry.status, entry.first_byte_s = message["status"], time.monotonic()
            message["headers"] = [*message["headers"], *names_of(entry.request_id)]
        await send(message)

    return send_noting


def _key(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _name_of(url: str) -> str:
    """The host's name in a URL, without its port; empty where there is none, or the URL is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
