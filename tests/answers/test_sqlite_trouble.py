"""Locked, full, read-only, damaged, removed: every method says so within its time, and works again afterwards."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from answers.conftest import OpenStore
from answers.rows import NOW_S, name, row
from miaotui.answers.store import Filter
from miaotui.answers.stores.sqlite import NUM_READERS
from miaotui.errors import StoreError

pytestmark = pytest.mark.anyio

LIMIT_S = 0.6
PATIENCE_S = 20 * LIMIT_S
"""Far beyond the limit, for the sake of slow machines; what waits for ever takes longer still."""


async def within(work: Awaitable[Any]) -> Any:
    """Its result, which must come in a bounded time."""
    async with asyncio.timeout(PATIENCE_S):
        return await work


def all_writes(store: Any) -> list[Callable[[], Awaitable[Any]]]:
    return [
        lambda: store.put([row("new")]),
        lambda: store.delete(Filter("answer")),
        lambda: store.touch({name(row("old")): NOW_S + 5}),
        lambda: store.claim(b"k", "me", 1.0),
        lambda: store.release(b"k", "me"),
    ]


async def test_a_lock_of_another_process_is_waited_for_and_then_reported(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}", timeout_s=LIMIT_S)
    await store.put([row("old")])
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    for work in all_writes(store):
        with pytest.raises(StoreError, match=r"locked|did not answer"):
            await within(work())
    assert await within(store.get(name(row("old")), NOW_S)) == row("old")  # readers do not wait
    waiting = asyncio.create_task(store.put([row("waiting")]))
    await asyncio.sleep(0)
    other.execute("COMMIT")
    other.close()
    await within(waiting)
    assert await store.get(name(row("waiting")), NOW_S) == row("waiting")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_is_reported_and_harms_nothing_that_was_kept(small_disk: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{small_disk / 'a.db'}", timeout_s=5.0)
    kept = []
    with pytest.raises(StoreError, match="full"):  # noqa: PT012
        for number in range(10_000):
            more = row(str(number), payload=b'{"a":"' + b"x" * 20_000 + b'"}')
            await within(store.put([more]))
            kept.append(more)
    assert len(kept) > 10
    for each in kept:
        assert await within(store.get(name(each), NOW_S)) == each
    with pytest.raises(StoreError, match="full"):
        await within(store.put([row("still full", payload=b'{"a":"' + b"x" * 3_000_000 + b'"}')]))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    await within(store.put([row("room again")]))
    assert (await store.count(Filter("answer"))).num_rows == len(kept) + 1
    await store.close()
    with sqlite3.connect(small_disk / "a.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_file_that_may_not_grow_is_reported(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}", timeout_s=5.0)
    await store.put([row("old")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
    try:
        with pytest.raises(StoreError, match="disk"):
            await within(store.put([row("new", payload=b'{"a":"' + b"x" * 2_000_000 + b'"}')]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await within(store.put([row("new")]))
    assert await store.get(name(row("old")), NOW_S) == row("old")


NOT_ROOT = """
import asyncio, concurrent.futures.thread, os, sys  # what root alone may read is read before
from miaotui.answers.row import Row
from miaotui.answers.stores import open_store
from miaotui.errors import StoreError

async def main():
    store = open_store("sqlite:" + sys.argv[1], timeout_s=1.0)
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    for work in (store.open, lambda: store.put([Row("answer", "t", b"k", b"{}", 1.0)])):
        try:
            await work()
        except StoreError as error:
            print("StoreError:", error)
    await store.close()

asyncio.run(main())
"""


async def test_a_file_that_may_not_be_written_is_reported(tmp_path: Path) -> None:
    """In another process, which gives up being root: root may write anything."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o011)
    for made in (False, True):
        folder = tmp_path / f"made {made}"
        folder.mkdir()
        if made:
            old = sqlite3.connect(folder / "a.db")
            old.execute("CREATE TABLE t (x)")
            old.close()
            (folder / "a.db").chmod(0o444)
        folder.chmod(0o555)
        run = subprocess.run(
            [sys.executable, "-c", NOT_ROOT, str(folder / "a.db")],
            capture_output=True, text=True, check=True, timeout=5 * PATIENCE_S,
        )  # fmt: skip
        lines = run.stdout.splitlines()
        assert len(lines) == 2, run
        assert all("cannot be written" in line or "cannot be opened" in line for line in lines), lines


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be one" * 100, b"SQLite format 3\0" + b"x" * 9000]
)
async def test_what_is_no_database_is_left_alone(tmp_path: Path, opening: OpenStore, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"no database|damaged"):
        await within(opening(f"sqlite:{tmp_path / 'a.db'}", timeout_s=LIMIT_S))
    assert (tmp_path / "a.db").read_bytes() == content


async def test_a_folder_in_its_place_is_reported(tmp_path: Path, opening: OpenStore) -> None:
    with pytest.raises(StoreError):
        await within(opening(f"sqlite:{tmp_path}", timeout_s=LIMIT_S))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        await within(opening(f"sqlite:{tmp_path / 'file' / 'a.db'}", timeout_s=LIMIT_S))


async def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path, opening: OpenStore) -> None:
    """What is written to a file without a name is lost, so nothing may be."""
    store = await opening(f"sqlite:{tmp_path / 'deep' / 'a.db'}")
    await store.put([row("old")])
    shutil.rmtree(tmp_path / "deep")
    await store.put([row("new")])
    assert await store.get(name(row("old")), NOW_S) is None
    assert await store.get(name(row("new")), NOW_S) == row("new")
    await store.close()
    assert (tmp_path / "deep" / "a.db").is_file()


async def test_the_file_is_for_this_user_alone(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'deep' / 'a.db'}")
    await store.put([row("private")])
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "deep").iterdir()} == {0o600}
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700


async def test_rows_that_were_tampered_with_do_not_hide_the_others(
    tmp_path: Path, opening: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}")
    columns = ["tenant", "payload", "created_s", "grp", "model", "text", "vector", "expires_s", "tags", "mac"]
    rows = [row(column, key=column.encode()) for column in columns]
    await store.put([*rows, row("sound")])
    with sqlite3.connect(tmp_path / "a.db") as connection:
        for column in columns:
            connection.execute(f"UPDATE answer_row SET {column} = 'x' WHERE key = ?", (column.encode(),))
        connection.execute("UPDATE answer_row SET tenant = X'FF' WHERE key = 'tenant'")
    connection.close()
    found = await store.rows(Filter("answer"), now_s=NOW_S)
    assert [each.text for each in found] == ["sound"]
    assert "damaged" in caplog.text


async def test_a_failed_put_does_not_harm_those_in_the_same_commit(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}")
    from dataclasses import replace

    bad = replace(row("bad"), created_s=1 << 70)  # no number of SQLite's
    outcomes = await asyncio.gather(
        *(store.put([row(str(number))] + [bad] * (number % 3 == 1)) for number in range(60)), return_exceptions=True
    )
    for number, outcome in enumerate(outcomes):
        found = await store.get(name(row(str(number))), NOW_S)
        if number % 3 == 1:
            assert isinstance(outcome, Exception)
            assert found is None
        else:
            assert outcome is None
            assert found == row(str(number))


async def test_a_put_is_on_the_disk_when_it_returns(tmp_path: Path, opening: OpenStore) -> None:
    """Kills cannot show it, for the system survives them: it is SQLite's word that FULL (2) syncs the log each time."""
    store = await opening(f"sqlite:{tmp_path / 'a.db'}")
    for pragma, value in (("synchronous", 2), ("journal_mode", "wal")):
        said = await store._write(lambda connection, pragma=pragma: connection.execute(f"PRAGMA {pragma}").fetchone())
        assert said == (value,)


async def test_commits_are_shared_by_those_who_wait(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}")

    async def log_bytes(work: Awaitable[Any]) -> int:
        """By how much the log has grown; every commit writes the pages it has changed."""
        before = os.path.getsize(tmp_path / "a.db-wal")
        await work
        return os.path.getsize(tmp_path / "a.db-wal") - before

    alone = await log_bytes(store.put([row("alone")]))
    together = await log_bytes(asyncio.gather(*(store.put([row(str(number))]) for number in range(100))))
    assert together < 100 * alone / 3


async def test_a_search_that_takes_too_long_ends(tmp_path: Path, opening: OpenStore) -> None:
    store = await opening(f"sqlite:{tmp_path / 'a.db'}", timeout_s=LIMIT_S)
    await store.put([row("old")])
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    start_s = time.monotonic()
    searches = [store._read(lambda connection: connection.execute(endless).fetchone()) for _ in range(NUM_READERS)]
    outcomes = await within(asyncio.gather(*searches, return_exceptions=True))
    assert [type(outcome) for outcome in outcomes] == [StoreError] * NUM_READERS
    assert time.monotonic() - start_s < PATIENCE_S
    for _ in range(4):  # the threads are free again
        assert await within(store.get(name(row("old")), NOW_S)) == row("old")
