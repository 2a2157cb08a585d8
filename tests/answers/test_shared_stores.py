"""Two processes over one store: one computes, no row is there twice, nobody is in another's way."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from answers.conftest import OpenStore, empty
from answers.rows import NOW_S
from answers.servers import Postgres
from miaotui.answers.store import Filter

pytestmark = pytest.mark.anyio

NUM_PROCESSES = 2
OPERATIONS = {"postgres": 10_000, "sqlite": 2_000, "redis": 4_000}
"""Of all processes together."""

WORKER = """
import asyncio, json, os, random, sys
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store

url, folder, me, num_operations, now_s = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
NAMES = [("answer", f"t{number % 5}", f"key {number}".encode()) for number in range(40)]
done = {}
overlaps = 0

def count(what):
    done[what] = done.get(what, 0) + 1

def row(rng, name):
    text = f"word{rng.randrange(9)} by {me}"
    return Row(*name, payload_of({"by": me}), now_s + rng.random(), text=text, tags=(f"t{rng.randrange(4)}", me),
               model=f"m{rng.randrange(3)}", group=bytes([rng.randrange(3)]) * 32)

async def compute(store, rng, name):
    '''What only one may do at a time, of whatever process: a file says whether another one does.'''
    global overlaps
    owner = f"{me} {rng.random()}"
    if not await store.claim(name[2], owner, 60.0):
        count("others claim")
        return
    witness = os.path.join(folder, name[2].hex())
    try:
        os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        overlaps += 1
    else:
        await store.put([row(rng, name)])
        os.unlink(witness)
    await store.release(name[2], owner)
    count("claim")

async def operate(store, rng):
    some = rng.sample(NAMES, rng.randrange(1, 8))
    kind = rng.randrange(10)
    if kind < 3:
        await store.put([row(rng, name) for name in some])
    elif kind < 5:
        await store.get(some[0], now_s)
    elif kind == 5:
        await store.touch({name: now_s + rng.random() for name in some})
    elif kind == 6:
        await store.delete(Filter("answer", rng.choice([None, "t1"]), tag=f"t{rng.randrange(4)}"))
    elif kind == 7:
        await store.rows(Filter("answer", text=f"word{rng.randrange(9)}"), now_s=now_s, limit=10)
        await store.count(Filter("answer"))
    else:
        return await compute(store, rng, some[0])
    count("operation")

async def main():
    store = open_store(url, max_bytes=30 * 400, timeout_s=60.0)
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()

    async def work(task):
        rng = random.Random(f"{me} {task}")
        for _ in range(num_operations // 8):
            await operate(store, rng)

    await asyncio.gather(*(work(task) for task in range(8)))
    await store.close()
    collisions = getattr(store, "num_collisions", 0)
    print(json.dumps({"done": done, "overlaps": overlaps, "collisions": collisions}), flush=True)

asyncio.run(main())
"""


def run_together(url: str, folder: Path, num_operations: int) -> list[dict[str, Any]]:
    """What the processes say after all have done their share at the same time."""
    share = str(num_operations // NUM_PROCESSES)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(folder), f"process {number}", share, str(NOW_S)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(NUM_PROCESSES)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    reports = [json.loads(worker.communicate(timeout=300)[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return reports


@pytest.mark.parametrize("kind", OPERATIONS)
async def test_two_processes_share_a_store_without_harm(
    kind: str, url_of: Callable[[str], str], opening: OpenStore, tmp_path: Path, postgres: Postgres
) -> None:
    url = url_of(kind)
    store = await opening(url)
    await empty(store)
    witnesses = tmp_path / "witnesses"
    witnesses.mkdir()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    connection = await asyncpg.connect(postgres.url)
    deadlocks_before = await connection.fetchval(deadlocks)
    reports = await asyncio.to_thread(run_together, url, witnesses, OPERATIONS[kind])
    print(kind, reports)
    assert [report["overlaps"] for report in reports] == [0] * NUM_PROCESSES
    assert sum(sum(report["done"].values()) for report in reports) == OPERATIONS[kind]
    assert all(report["done"]["claim"] for report in reports)
    assert list(witnesses.iterdir()) == []
    found = await store.rows(Filter("answer"), now_s=NOW_S, limit=1000)
    names = [(each.tenant, each.key) for each in found]
    assert len(names) == len(set(names))
    count = await store.count(Filter("answer"))
    assert (count.num_rows, count.num_bytes) == (len(found), sum(each.num_bytes for each in found))
    for each in found:
        which = Filter("answer", each.tenant, each.key, each.group, each.model, each.tags[0], each.text)
        assert await store.rows(which, now_s=NOW_S) == [each]
    if kind == "postgres":
        assert [report["collisions"] for report in reports] == [0] * NUM_PROCESSES
        assert await connection.fetchval(deadlocks) == deadlocks_before
    await connection.close()
