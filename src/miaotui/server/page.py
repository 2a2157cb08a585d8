"""The web page at /: files of the package, read once, with headers that keep a browser from running anything else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "object-src 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
HEADERS = {
    "content-security-policy": "; ".join(_POLICY),
    "cache-control": "no-cache",  # kept, but asked about each time: a new version of the package shows at once
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page: its bytes, what they are, and a tag that changes with them."""

    content: bytes
    media_type: str
    tag: str


def _read(file: Path) -> PageFile:
    content = file.read_bytes()
    return PageFile(content, _TYPES[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


FILES = {file.name: _read(file) for file in sorted(FOLDER.iterdir()) if file.suffix in _TYPES}
"""All that is ever served, by name: what a request asks for is looked up here, and never on the disk."""

PATHS = frozenset({"/", *(f"/page/{name}" for name in FILES)})
"""Open to everybody: they are the same on every machine. What they then ask the server for needs a key as ever."""


async def front_page(request: Request) -> Response:
    """The page on which people ask."""
    return _reply(request, "index.html")


async def page_file(request: Request) -> Response:
    """A style sheet, module or picture of the page."""
    return _reply(request, request.path_params["name"])


def _reply(request: Request, name: str) -> Response:
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404)
    headers = HEADERS | {"etag": file.tag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
