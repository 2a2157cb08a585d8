"""What a server is: its address, its model, and how it counts tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from miaotui.errors import ConfigError, ModelNotFoundError, ServerReplyError, UnauthorizedError
from miaotui.load.client import refusal_text
from miaotui.load.prompts import Scale, Writer
from miaotui.load.words import random_words

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
QUESTION_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `root`, its address without /v1, one of its models, and who that model says owns it."""

    root: str
    model: str
    owner: str = ""


def root_of(url: str) -> str:
    """The address before /v1 of what the user wrote. Raises ConfigError for what is no http address."""
    shown = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(shown)
        named = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        named = None
    if not named or parts.query or parts.fragment:
        raise ConfigError(f"{url[:200]!r} is no server's address; it should be like http://127.0.0.1:8000")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


async def find_target(session: aiohttp.ClientSession, root: str, model: str | None) -> Target:
    """The server's model of that name, or its only one.

    Raises ServerReplyError, UnauthorizedError, ModelNotFoundError (with the names there are), ConfigError (which?).
    """
    reply = await _question(session, "GET", f"{root}/v1/models")
    listed = reply.get("data") if isinstance(reply, dict) else None
    rows = listed if isinstance(listed, list) else []
    entries = [entry for entry in rows if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    owners = {entry["id"]: str(entry.get("owned_by", "")) for entry in entries}
    names = ", ".join(name[:100] for name in list(owners)[:20]) or "none"
    if model is not None:
        if owners and model not in owners:
            raise ModelNotFoundError(f"{root} serves no model {model[:100]!r}; it serves: {names}")
        return Target(root, model, owners.get(model, ""))
    if not owners:
        raise ServerReplyError(f"{root}/v1/models names no model; name it with --model")
    if len(owners) > 1:
        raise ConfigError(f"{root} serves several models; choose one with --model: {names}")
    ((name, owner),) = owners.items()
    return Target(root, name, owner)


async def measure_scale(session: aiohttp.ClientSession, target: Target, writer: Writer) -> Scale:
    """How many tokens the server makes of words: asked of /tokenize, else seen in the usage of two short requests."""
    try:
        few, many = 16, 400
        counts = [await _tokenize(session, target, writer, num_words) for num_words in (few, many)]
        source = "/tokenize"
    except (ServerReplyError, UnauthorizedError):
        few, many = 8, 40
        counts = [await _usage(session, target, writer, num_words) for num_words in (few, many)]
        source = "usage"
    if counts[0] is None or counts[1] is None or not 0 < counts[0] < counts[1]:
        return Scale()
    rate = (counts[1] - counts[0]) / (many - few)
    return Scale(rate, max(0.0, counts[0] - rate * few), source)


async def _tokenize(session: aiohttp.ClientSession, target: Target, writer: Writer, num_words: int) -> int | None:
    prompt = " ".join(random_words(num_words, writer.seed, "scale"))
    body: dict[str, Any] = {"model": target.model, "prompt": prompt}
    if writer.endpoint == "chat":
        body = {"model": target.model, "messages": [{"role": "user", "content": prompt}], "add_generation_prompt": True}
    reply = await _question(session, "POST", f"{target.root}/tokenize", msgspec.json.encode(body))
    return _count(reply, "count")


async def _usage(session: aiohttp.ClientSession, target: Target, writer: Writer, num_words: int) -> int | None:
    prompt = " ".join(random_words(num_words, writer.seed, "scale"))
    url = target.root + PATHS[writer.endpoint]
    reply = await _question(session, "POST", url, writer.body(prompt, 1, stream=False))
    return _count(reply.get("usage") if isinstance(reply, dict) else None, "prompt_tokens")


def _count(reply: Any, name: str) -> int | None:
    value = reply.get(name) if isinstance(reply, dict) else None
    return value if isinstance(value, int) and value > 0 else None


async def _question(session: aiohttp.ClientSession, method: str, url: str, body: bytes | None = None) -> Any:
    """The JSON of a reply. Raises ServerReplyError and UnauthorizedError, with what to do about it."""
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        async with (
            asyncio.timeout(QUESTION_TIMEOUT_S),
            session.request(method, url, data=body, headers=headers, allow_redirects=False) as reply,
        ):
            if reply.status in (401, 403):
                hint = "give its API key with --api-key-file FILE or MIAOTUI_API_KEY"
                raise UnauthorizedError(f"{url} answers {reply.status}: {await refusal_text(reply)}; {hint}")
            if reply.status != 200:
                hint = "is this the address before /v1 of a server with OpenAI's API?"
                raise ServerReplyError(f"{url} answers {reply.status}: {await refusal_text(reply)}; {hint}")
            return msgspec.json.decode(await reply.read())
    except TimeoutError:
        raise ServerReplyError(f"{url} has not answered within {QUESTION_TIMEOUT_S:g} s; is the server busy?") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ServerReplyError(f"{url} does not answer in JSON, so it is no server with OpenAI's API.") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error, ServerReplyError | UnauthorizedError):
            raise
        raise ServerReplyError(
            f"nothing usable answers at {url}: {error}; start the server or correct the URL"
        ) from None
