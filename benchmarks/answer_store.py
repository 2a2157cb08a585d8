"""What an answer store costs: filling it, puts of many at once, exact hits and misses, alone and beside puts.

usage: answer_store.py [--store URL] [--rows N] [--probes N] [--out FILE.json]
Without --store a file in a temporary folder is filled. Times are those of a caller's `await`, threads and event loop
included. For PostgreSQL and Redis name a server that may be filled: what is there stays.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from common import machine_facts, write_record
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Filter
from miaotui.answers.stores import open_store

SECRET = b"benchmark"
TENANT = "benchmark"
ROWS_AT_ONCE = 500
NOW_S = 1_800_000_000.0
_TEXT = (
    "how do I turn the light on off today tomorrow price of train from to Berlin Paris 5 kg 3 miles why where is"
    " the capital weather recipe error code install update password account delete open"
)
WORDS = _TEXT.split()


def key_of(number: int) -> bytes:
    """Keys are SHA-256 in earnest, too: they come in no order."""
    return hashlib.sha256(number.to_bytes(8, "little")).digest()


def row_of(number: int) -> Row:
    """An answer of the usual size, about 1 kB."""
    rng = random.Random(number)
    question = " ".join(rng.choices(WORDS, k=12)) + f" {number}"
    payload = payload_of({"question": question, "answer": " ".join(rng.choices(WORDS, k=120)), "tokens": 160})
    return Row(
        "answer", TENANT, key_of(number), payload, NOW_S + number / 100, hashlib.sha256(question[:3].encode()).digest(),
        "sha256:model", question, tags=("generated",),
    ).sealed(SECRET)  # fmt: skip


def figures(times_s: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    times = sorted(times_s)
    parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    at = {name: round(times[min(int(len(times) * part), len(times) - 1)] * 1e3, 3) for name, part in parts.items()}
    return at | {"max": round(times[-1] * 1e3, 3)}


async def timed(work: Callable[[], Awaitable[Any]], times_s: list[float]) -> Any:
    start_s = time.perf_counter()
    result = await work()
    times_s.append(time.perf_counter() - start_s)
    return result


async def fill(store: Any, num_rows: int) -> dict[str, float]:
    """Put rows by the hundred, as an import does."""
    start_s = time.perf_counter()
    making_s = 0.0
    for start in range(0, num_rows, ROWS_AT_ONCE):
        begin_s = time.perf_counter()
        rows = [row_of(number) for number in range(start, min(start + ROWS_AT_ONCE, num_rows))]
        making_s += time.perf_counter() - begin_s
        await store.put(rows)
        if start % 100_000 == 0 and start:
            print(f"  {start:,} rows after {time.perf_counter() - start_s:.0f} s", flush=True)
    seconds = time.perf_counter() - start_s - making_s
    return {"rows": num_rows, "seconds": round(seconds, 1), "rows_per_s": round(num_rows / seconds)}


async def puts(store: Any, first: int, num_puts: int, num_tasks: int) -> dict[str, float]:
    """Single rows by several tasks at once, each acknowledged before the task's next."""
    numbers = iter(range(first, first + num_puts))
    times_s: list[float] = []

    async def work() -> None:
        for number in numbers:
            row = row_of(number)
            await timed(lambda row=row: store.put([row]), times_s)

    start_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(num_tasks)))
    return {"puts_per_s": round(num_puts / (time.perf_counter() - start_s))} | figures(times_s)


async def gets(store: Any, keys: list[bytes], *, wanted: bool) -> dict[str, float]:
    """One after the other, as single questions come."""
    times_s: list[float] = []
    for key in keys:
        found = await timed(lambda key=key: store.get(("answer", TENANT, key), NOW_S), times_s)
        assert (found is not None and found.is_genuine(SECRET)) == wanted
    return figures(times_s)


async def beside_puts(store: Any, first: int, work: Callable[[], Awaitable[Any]]) -> Any:
    """Something while one task puts without a pause."""
    is_over = asyncio.Event()

    async def disturb() -> None:
        number = first
        while not is_over.is_set():
            await store.put([row_of(number)])
            number += 1

    disturbing = asyncio.ensure_future(disturb())
    result = await work()
    is_over.set()
    await disturbing
    return result


async def measure(url: str, num_rows: int, num_probes: int) -> dict[str, Any]:
    """All figures of one store."""
    store: Any = open_store(url)
    await store.open()
    report: dict[str, Any] = {"store": store.name, "fill": await fill(store, num_rows)}
    rng = random.Random(1)
    hits = [key_of(rng.randrange(num_rows)) for _ in range(num_probes)]
    misses = [hashlib.sha256(key).digest() for key in hits]
    report["get, first time"] = await gets(store, hits[: num_probes // 2], wanted=True)
    report["get"] = await gets(store, hits, wanted=True)
    report["get, nothing there"] = await gets(store, misses, wanted=False)
    next_free = num_rows
    for num_tasks in (1, 8, 64):
        report[f"put, {num_tasks} at once"] = await puts(store, next_free, min(num_probes, 500 * num_tasks), num_tasks)
        next_free += num_probes
    report["get, beside puts"] = await beside_puts(store, next_free, lambda: gets(store, hits, wanted=True))
    times_s: list[float] = []
    for _ in range(20):
        which = Filter("answer", TENANT, text=str(rng.randrange(num_rows)))
        await timed(lambda which=which: store.rows(which, now_s=NOW_S, limit=20), times_s)
    report["search by a rare word"] = figures(times_s)
    times_s = []
    for _ in range(5):
        await timed(lambda: store.rows(Filter("answer", TENANT), now_s=NOW_S, limit=50), times_s)
        await timed(lambda: store.count(Filter("answer", TENANT)), times_s)
    report["page of the newest, or count"] = figures(times_s)
    report["rows"] = (await store.count(Filter("answer", TENANT))).num_rows
    await store.close()
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--probes", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.store or f"sqlite:{folder}/answers.db"
        report = asyncio.run(measure(url, given.rows, given.probes))
        if given.store is None:
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            report["file_bytes_per_row"] = round(size / report["rows"])
    for what, value in report.items():
        print(f"{what:30} {json.dumps(value)}")
    if given.out:
        write_record({"machine": machine_facts(), **report}, given.out)


if __name__ == "__main__":
    main()
