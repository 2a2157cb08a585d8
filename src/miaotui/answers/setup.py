"""From settings to a cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from miaotui.answers.cache import AnswerCache
from miaotui.answers.secret import secret_of
from miaotui.answers.store import Store
from miaotui.errors import ConfigError

SQLITE_FILE = "answers.sqlite"


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

    stores: list[Store] = [open_store("memory:", max_bytes=memory_bytes)]
    for url in urls:
        if url == "off":
            raise ConfigError("cache must be off, or name stores, not both.")
        if url != "memory":
            named = f"sqlite:{home / SQLITE_FILE}" if url == "sqlite" else url
            stores.append(open_store(named, max_bytes=store_bytes))
    return AnswerCache(stores, secret_of(secret, home), ttl_s=ttl_s)
