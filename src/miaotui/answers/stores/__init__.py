"""Where answers are kept: in memory, in a file (SQLite), in PostgreSQL, in Redis; all behind `Store`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from miaotui.answers.store import Store
from miaotui.errors import ConfigError

KINDS = "sqlite:PATH, postgresql://USER@HOST/DATABASE, redis://HOST:PORT, redis+cluster://HOST:PORT or memory:"


def open_store(url: str, *, max_bytes: int | None = None, timeout_s: float = 5.0) -> Store:
    """The store that a URL names; `await store.open()` connects it, now or when it can be reached.

    max_bytes: of answers (in memory of all rows); the least recently used go first. Of other rows see
    `store.limits_of`. timeout_s: after which every method has ended, if with an error.
    Raises ConfigError for a URL that names no store, or one whose driver is not installed.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or "\0" in url:
        raise ConfigError(f"{_shown(url)!r} names no answer store; give {KINDS}")
    match scheme.lower():
        case "memory":
            from miaotui.answers.stores.memory import MemoryStore

            return MemoryStore(max_bytes)
        case "sqlite":
            from miaotui.answers.stores.sqlite import SqliteStore

            return SqliteStore(_path(rest, url), max_bytes=max_bytes, timeout_s=timeout_s)
        case "postgresql" | "postgres":
            try:
                from miaotui.answers.stores.postgres import PostgresStore
            except ImportError as error:
                raise _no_driver("PostgreSQL", "postgres", error) from error
            return PostgresStore(url, max_bytes=max_bytes, timeout_s=timeout_s)
        case "redis" | "rediss" | "redis+unix" | "redis+cluster" | "rediss+cluster":
            try:
                from miaotui.answers.stores.redis import RedisStore
            except ImportError as error:
                raise _no_driver("Redis", "redis", error) from error
            return RedisStore(url, max_bytes=max_bytes, timeout_s=timeout_s)
    raise ConfigError(f"{_shown(url)!r} names no answer store; give {KINDS}")


def _path(rest: str, url: str) -> Path:
    """sqlite:PATH, and sqlite:///PATH as others write it."""
    text = rest[2:] if rest.startswith("///") else rest
    if not text or text.endswith("/"):
        raise ConfigError(f"{url!r} names no file; give sqlite:PATH, e.g. sqlite:answers.db")
    return Path(text).expanduser()


def _no_driver(what: str, extra: str, error: ImportError) -> ConfigError:
    return ConfigError(f"answers in {what} need a driver ({error}); install it: pip install 'miaotui[{extra}]'")


def _shown(url: str) -> str:
    """A URL as a message may show it: without its password."""
    try:
        return without_password(url)
    except ValueError:
        return url.partition(":")[0]


def without_password(url: str) -> str:
    """A URL as logs may show it: scheme, host and path. Raises ValueError for none."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host or parts.netloc else f"{parts.scheme}:{parts.path}"
