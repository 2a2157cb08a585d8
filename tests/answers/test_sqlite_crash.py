"""What was acknowledged is there after the process was killed at any moment, and the file is whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from answers.rows import NOW_S, SECRET
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store

CYCLES = int(os.environ.get("SOAK_KILLS", "50"))
REOPEN_S = 2.0

WRITER = """
import asyncio, os, sys
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store

async def main(url, cycle, now_s):
    store = open_store(url, max_bytes=1 << 40)
    await store.open()

    async def work(task):
        number = 0
        while True:
            number += 1
            key = f"{cycle} {task} {number}".encode()
            row = Row("answer", f"t{task % 3}", key, payload_of({"a": "x" * (37 * number % 5000)}), now_s,
                      text=f"word {number}", tags=("t", str(number)), model=str(cycle)).sealed(b"a secret")
            await store.put([row])
            os.write(1, key + b"\\n")  # less than a pipe's buffer: whole or not at all
            if number % 7 == 0:
                await store.touch({("answer", f"t{task % 3}", key): now_s + 1})
            if number % 50 == 0:
                await store.delete(Filter("decision"))

    await asyncio.gather(*(work(task) for task in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
"""


def write_and_kill(url: str, cycle: int, rng: random.Random) -> list[bytes]:
    """The keys that were acknowledged before the process was killed, some time after the first of them."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url, str(cycle), str(NOW_S)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    num_wanted = rng.randrange(400)
    read = b""
    while read.count(b"\n") < num_wanted:
        part = os.read(writer.stdout.fileno(), 1 << 16)
        assert part, "the writer has ended by itself"
        read += part
    writer.send_signal(signal.SIGKILL)
    read += writer.stdout.read()
    writer.stdout.close()
    writer.wait()
    return [key for key in read.rpartition(b"\n")[0].split(b"\n") if key]


async def lost(url: str, acknowledged: list[bytes]) -> tuple[int, float]:
    """How many rows are not there as they were put, and how long the store took to open."""
    start_s = time.monotonic()
    store = open_store(url)
    await store.open()
    opened_s = time.monotonic() - start_s
    num_lost = 0
    for key in acknowledged:
        tenant = f"t{int(key.split()[1]) % 3}"
        found = await store.get(("answer", tenant, key), NOW_S)
        num_lost += found is None or not found.is_genuine(SECRET)
        num = key.split()[2].decode()
        num_lost += not await store.rows(Filter("answer", tenant, key, tag=num, text=f"word {num}"), now_s=NOW_S)
    counted, listed = await store.count(Filter("answer")), await store.count(Filter("answer", text="word"))
    num_lost += counted != listed
    await store.close()
    return num_lost, opened_s


def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path, report_faults: Callable[[str, int, int], None]) -> None:
    path = tmp_path / "a.db"
    rng = random.Random(5)
    num_failures = num_acknowledged = 0
    openings_s: list[float] = []
    for cycle in range(CYCLES):
        acknowledged = write_and_kill(f"sqlite:{path}", cycle, rng)
        num_lost, opened_s = asyncio.run(lost(f"sqlite:{path}", acknowledged))
        connection = sqlite3.connect(path)
        is_whole = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("INSERT INTO row_word (row_word) VALUES ('integrity-check')")
        connection.rollback()
        connection.close()
        num_acknowledged += len(acknowledged)
        openings_s.append(opened_s)
        num_failures += bool(num_lost) or not is_whole
    *_, second_s, slowest_s = sorted(openings_s)
    num_failures += second_s > REOPEN_S  # one may have met a moment when the disk served somebody else
    print(f"{CYCLES} kills, {num_acknowledged} acknowledged rows, slowest opening {slowest_s * 1e3:.0f} ms")
    report_faults("kills in the middle of writes to SQLite", CYCLES, num_failures)
