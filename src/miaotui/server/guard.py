"""What every request must pass before a route sees it: size, host, origin, key."""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from miaotui.errors import BodyTooLargeError, UnauthorizedError
from miaotui.server.replies import error_reply, plain_error
from miaotui.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Answered without a key: they tell nothing but whether the server lives."""


class Guard:
    """ASGI middleware around the whole application; unknown paths are refused without a key like all others."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on with its tenant and id in the scope's state."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = re.sub("/{2,}", "/", scope["path"])  # a base URL with a slash at its end makes two
        scope = {**scope, "path": path, "raw_path": path.encode("utf-8", "surrogatepass")}
        headers = Headers(scope=scope)
        refusal = self._refusal_of_host(path, headers) or self._refusal_of_size(path, headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        tenant = self._tenant(path, headers)
        if tenant is None:
            named = "is not known" if _key(headers) else "is missing: send it as `Authorization: Bearer KEY`"
            reply = error_reply(UnauthorizedError(f"the API key {named}."), path)
            reply.headers["www-authenticate"] = "Bearer"
            await reply(scope, receive, send)
            return
        scope.setdefault("state", {})
        scope["state"] |= {"tenant": tenant, "request_id": uuid.uuid4().hex}
        await self._app(scope, self._bounded(receive), send)

    def _tenant(self, path: str, headers: Headers) -> str | None:
        if not self._settings.keys or path in OPEN_PATHS:
            return ""
        key = self._settings.find_key(_key(headers))
        return None if key is None else key.tenant

    def _refusal_of_host(self, path: str, headers: Headers) -> Any:
        """Pages of other sites must not use the visitor's browser to get here (DNS rebinding, forged requests)."""
        names = self._settings.local | self._settings.host_names
        host = _name_of(headers.get("host", ""))
        if host not in names:
            text = f"the host {host[:100]!r} is not served here; `miaotui serve --host-name` allows it."
            return plain_error(421, text, path)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).hostname not in names:
            text = "requests from pages of other sites are not answered."
            return plain_error(403, text, path)
        return None

    def _refusal_of_size(self, path: str, headers: Headers) -> Any:
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._settings.max_body_bytes:
            return error_reply(self._too_large(), path)
        return None

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the body is longer than {self._settings.max_body_bytes} bytes.")

    def _bounded(self, receive: Receive) -> Receive:
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._settings.max_body_bytes:
                raise self._too_large()
            return message

        return receive_bounded


def _key(headers: Headers) -> str:
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
