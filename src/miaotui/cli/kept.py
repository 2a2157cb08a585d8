"""What the commands on kept answers share: the cache in force, opened for one command."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from miaotui.answers.cache import AnswerCache, opened
from miaotui.answers.entry import Entry
from miaotui.answers.setup import open_cache
from miaotui.cli.output import print_json, print_pairs
from miaotui.config import load_config, load_serve_config
from miaotui.errors import ConfigError, NotKeptError, StoreError


def add_store_options(parser: ArgumentParser) -> None:
    """Which answers are meant."""
    parser.add_argument("--store", metavar="STORE", help="sqlite, sqlite:FILE, postgresql://… or redis://…; else as "
                        "configured for `miaotui serve`, or sqlite")  # fmt: skip
    parser.add_argument(
        "--tenant", metavar="NAME", default="", help="whose answers (default: those of servers without keys)"
    )


def with_cache(args: Namespace, work: Callable[[AnswerCache], Awaitable[int]]) -> int:
    """Do something with the cache that the arguments name; the exit code. Raises ConfigError, StoreError."""
    config, serve = load_config(), load_serve_config()
    stores = (args.store,) if args.store else tuple(url for url in serve.cache if url != "memory") or ("sqlite",)
    cache = open_cache(
        stores,
        config.home,
        memory_bytes=serve.cache_memory_bytes,
        store_bytes=serve.cache_store_bytes,
        ttl_s=serve.cache_ttl_s,
        secret=serve.cache_secret,
    )
    if cache is None:
        raise ConfigError("these commands need a store; give --store sqlite.")
    return asyncio.run(_opened(cache, work))


async def _opened(cache: AnswerCache, work: Callable[[AnswerCache], Awaitable[int]]) -> int:
    async with opened(cache):
        for level in cache.levels:
            if not level.works:
                raise StoreError(f"the {level.name} store cannot be used: {level.last_error}")
        return await work(cache)


def key_of(text: str | None) -> bytes:
    """An id as a key. Raises ConfigError."""
    try:
        key = bytes.fromhex(text or "")
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError("an id is 64 hexadecimal digits; `miaotui cache ls` shows them.")
    return key


def summary(entry: Entry) -> dict[str, Any]:
    """What is listed of an answer."""
    return {
        "id": entry.id,
        "origin": entry.origin,
        "question": entry.question,
        "answer": entry.answer,
        "created": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.created_s)),
        "model": entry.model[:12],
        "tags": list(entry.tags),
        "saved_s": entry.cost_s,
    }


def one_line(text: str, width: int = 60) -> str:
    """The beginning of a text without control characters, for a table."""
    plain = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return plain if len(plain) <= width else plain[: width - 1] + "…"


async def show_why(request_id: str, args: Namespace, cache: AnswerCache) -> int:
    """Print what became of a request, and what would become of the same question's answer now."""
    decision = await cache.why(request_id, args.tenant)
    if decision is None:
        raise NotKeptError("no request of that id is known; the id is in the reply's x-request-id header.")
    entry = await cache.entry(bytes.fromhex(decision.entry or ""), args.tenant) if decision.entry else None
    now = {"answer kept now": one_line(entry.answer) if entry else "none"}
    if args.json:
        print_json(asdict(decision) | {"answer": entry and entry.answer})
        return 0
    shown = {name: value for name, value in asdict(decision).items() if value not in (None, "", {}, (), [])}
    print_pairs(f"request {decision.request_id}", [(name, str(value)) for name, value in (shown | now).items()])
    return 0
