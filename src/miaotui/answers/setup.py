"""From settings to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miaotui.answers.cache import AnswerCache
from miaotui.answers.row import Kind
from miaotui.answers.secret import secret_of
from miaotui.answers.store import KINDS, Store
from miaotui.errors import ConfigError

SQLITE_FILE = "answers.sqlite"
IN_FRONT: tuple[Kind, ...] = ("answer", "case")
"""What is looked up by name again and again; the rest is in the stores behind the memory."""


def open_cache(
    urls: Sequence[str],
    home: Path,
    *,
    memory_bytes: int,
    store_bytes: int,
    ttl_s: float | None = None,
    secret: str | None = None,
) -> AnswerCache | None:
    """The cache that these settings ask for, not connected yet; None for none.

    urls: "memory", or stores behind it, the fastest first: "sqlite" (a file in `home`), "sqlite:FILE",
    "postgresql://…", "redis://…". Raises ConfigError.
    """
    if not urls or list(urls) == ["off"]:
        return None
    from miaotui.answers.stores import open_store
    from miaotui.answers.stores.memory import MemoryStore

    if "off" in urls:
        raise ConfigError("cache must be off, or name stores, not both.")
    named = [f"sqlite:{home / SQLITE_FILE}" if url == "sqlite" else url for url in urls if url != "memory"]
    stores: list[Store] = [MemoryStore(memory_bytes, IN_FRONT if named else KINDS)]
    stores += [open_store(url, max_bytes=store_bytes) for url in named]
    return AnswerCache(stores, secret_of(secret, home), ttl_s=ttl_s)
