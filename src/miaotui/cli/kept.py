"""What the commands on kept answers share: the cache in force, opened for one command."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from miaotui.answers.cache import AnswerCache, opened
from miaotui.answers.decision import Decision
from miaotui.answers.entry import Entry, entry_of
from miaotui.answers.setup import open_cache
from miaotui.answers.store import Filter
from miaotui.cli.output import note, print_json, print_pairs, print_table
from miaotui.config import Config, ServeConfig, load_config, load_serve_config
from miaotui.errors import ConfigError, NotKeptError, StoreError

Action = Callable[[Namespace, AnswerCache], Awaitable[int]]


def add_store_options(parser: ArgumentParser) -> None:
    """Which answers are meant."""
    parser.add_argument("--store", metavar="STORE", help="sqlite, sqlite:FILE, postgresql://… or redis://…; else as "
                        "configured for `miaotui serve`, or sqlite")  # fmt: skip
    parser.add_argument(
        "--tenant", metavar="NAME", default="", help="whose answers (default: those of servers without keys)"
    )


def action_of(args: Namespace, actions: Mapping[str, Action]) -> Action:
    """What the arguments want done. Raises ConfigError for what is not among the actions."""
    action = actions.get(args.action)
    if action is None:
        raise ConfigError(f"there is nothing to do called {args.action[:80]!r}; it is {', '.join(actions)}")
    return action


def cache_of(stores: Sequence[str], config: Config, serve: ServeConfig) -> AnswerCache | None:
    """The cache over these stores with the settings in force, not open yet; None for none. Raises ConfigError."""
    return open_cache(
        stores,
        config.home,
        memory_bytes=serve.cache_memory_bytes,
        store_bytes=serve.cache_store_bytes,
        ttl_s=serve.cache_ttl_s,
        secret=serve.cache_secret,
    )


def with_cache(args: Namespace, action: Action) -> int:
    """Do something with the cache that the arguments name; the exit code. Raises ConfigError, StoreError."""
    config, serve = load_config(), load_serve_config()
    stores = (args.store,) if args.store else tuple(url for url in serve.cache if url != "memory") or ("sqlite",)
    cache = cache_of(stores, config, serve)
    if cache is None:
        raise ConfigError("these commands need a store; give --store sqlite.")
    return asyncio.run(_opened(args, cache, action))


async def _opened(args: Namespace, cache: AnswerCache, action: Action) -> int:
    async with opened(cache):
        for level in cache.levels:
            if not level.works:
                raise StoreError(f"the {level.name} store cannot be used: {level.last_error}")
        return await action(args, cache)


def key_of(text: str | None) -> bytes:
    """An id as a key. Raises ConfigError."""
    try:
        key = bytes.fromhex(text or "")
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError("an id is 64 hexadecimal digits; `miaotui cache ls` shows them.")
    return key


async def list_answers(
    args: Namespace,
    cache: AnswerCache,
    heads: Sequence[str],
    cells: Callable[[Entry], Sequence[str]],
    *,
    nothing: str,
) -> int:
    """Print the latest kept answers that hold the arguments' words, or what to say where there are none."""
    which = Filter("answer", args.tenant, text=" ".join(args.words) or None)
    found = [entry_of(row) for row in await cache.rows(which, limit=args.limit)]
    if args.json:
        print_json([summary(entry) for entry in found])
    elif found:
        print_table(heads, [cells(entry) for entry in found])
    else:
        note(nothing)
    return 0


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
    if args.json:
        print_json(asdict(decision) | {"answer": entry and entry.answer})
        return 0
    now = one_line(entry.answer) if entry else "none"
    print_pairs(f"request {decision.request_id}", [*_told(decision), ("answer kept now", now)])
    return 0


def _told(decision: Decision) -> Iterator[tuple[str, str]]:
    """A decision as lines of a name and a value, without what it has none of."""
    yield "time", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision.created_s))
    yield "question", one_line(decision.question)
    yield "path", decision.path
    yield "why", decision.why
    if decision.matched:
        yield "matched", f"{one_line(decision.matched)} (similarity {decision.similarity or 0:.4f})"
    if decision.entry:
        yield "answer's id", decision.entry
    for name, seconds in decision.times_s.items():
        yield f"time to {name.replace('_', ' ')}", f"{seconds * 1000:.1f} ms"
    if decision.saved_s:
        yield "saved", f"{decision.saved_s:.2f} s"
    yield from _planned(decision.plan or {})
    for guard, said in decision.guards.items():
        yield f"guard {guard}", said
    for seen in decision.candidates:
        yield (
            f"looked at ({seen.get('similarity', 0):.4f})",
            f"{one_line(seen.get('matched', ''))}: {seen.get('why', '')}",
        )


def _planned(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was expected of which path, what was chosen, and what came; nothing where nobody planned."""
    if not plan:
        return
    yield "chosen path", f"{plan.get('path', '?')}: {plan.get('why', '')}"
    predicted, actual = plan.get("predicted_ms", 0.0), plan.get("actual_ms", 0.0)
    yield "predicted, took", f"{predicted:.1f} ms, {actual:.1f} ms"
    if plan.get("token_ms"):
        parts = f"waiting {plan['queue_ms']:.1f} ms, reading {plan['read_ms']:.1f} ms"
        yield "made of", f"{parts}, {plan['output_tokens']:.0f} tokens at {plan['token_ms']:.2f} ms"
    if plan.get("deadline_ms"):
        yield "deadline", f"{plan['deadline_ms']:.1f} ms"
    for one in plan.get("candidates", ()):
        chance = "" if one["chance"] >= 1 else f", suffices with probability {one['chance']:.2f}"
        refused = f"; not taken: {one['refused']}" if one["refused"] else ""
        yield f"path {one['path']}", f"{one['expected_ms']:.1f} ms expected{chance}{refused}"
