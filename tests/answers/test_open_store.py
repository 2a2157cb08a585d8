"""A URL names a store; what names none is refused with what would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from miaotui.answers.stores import open_store
from miaotui.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory:", "memory"),
        ("sqlite:answers.db", "sqlite:answers.db"),
        ("sqlite:/var/lib/answers.db", "sqlite:/var/lib/answers.db"),
        ("sqlite:///var/lib/answers.db", "sqlite:/var/lib/answers.db"),
        ("postgresql://user:secret@host:5433/answers?sslmode=require", "postgresql://host:5433/answers"),
        ("postgres://user:secret@/answers?host=/run&password=secret", "postgres:///answers"),
        ("redis://:secret@host:6380/3", "redis://host:6380/3"),
        ("rediss://user:secret@host", "rediss://host"),
        ("redis+cluster://:secret@host:7000", "redis+cluster://host:7000"),
        ("redis+unix:///run/redis.sock?password=secret", "redis+unix:/run/redis.sock"),
    ],
)
def test_a_url_names_a_store_which_shows_no_password(url: str, name: str) -> None:
    store = open_store(url, max_bytes=1 << 20)
    assert store.name.replace(":///", ":/") == name.replace(":///", ":/")
    assert "secret" not in store.name


@pytest.mark.parametrize(
    "url", ["", "answers.db", "/var/lib/answers.db", "mysql://u:secret@host/db", "sqlite:", "sqlite:a/", "sqlite:a\0b",
            "http://[::1", "sqlite"],
)  # fmt: skip
def test_what_names_no_store_is_refused_with_what_would(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:PATH") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("url", "driver"), [("postgresql://h/d", "postgres"), ("redis://h", "redis")])
def test_a_missing_driver_is_named_with_its_extra(url: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in ("asyncpg", "redis") or name.startswith("miaotui.answers.stores."):
            monkeypatch.delitem(sys.modules, name)
    for name in ("asyncpg", "redis", "redis.asyncio"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"miaotui\[{driver}\]"):
        open_store(url)


def test_a_file_needs_no_driver(tmp_path: Path) -> None:
    """The embedded store must work, and start fast, with nothing installed but Python."""
    program = (
        "import asyncio, sys\n"
        "from miaotui.answers.stores import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "asyncio.run(store.open())\n"
        "print(sorted({'asyncpg', 'redis', 'numpy', 'miaotui._native'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:{tmp_path / 'a.db'}"], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
