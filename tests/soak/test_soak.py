"""`make soak`: hours of a server's life in minutes, against a real `miaotui serve` with a real model.

SOAK_MODEL, SOAK_MIXED_S, SOAK_OVERLOAD_S, SOAK_ABORTS, SOAK_PROBES and SOAK_REQUESTS set the model and the scale. What
was found is written to SOAK_REPORT (build/soak.json) as tests end, with every sample and the machine's facts.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

from common import ROOT, machine_facts, write_record
from miaotui.engine.async_llm import AsyncLLM
from server.conftest import served
from server.conftest import tiny_model as tiny_model  # a fixture
from server.load import ask, at_once, leave, some_text, spy
from server.overload import Besieger

pytestmark = pytest.mark.soak

MODEL = os.environ.get("SOAK_MODEL", "smollm2:135m")
MIXED_S = float(os.environ.get("SOAK_MIXED_S", "600"))
OVERLOAD_S = float(os.environ.get("SOAK_OVERLOAD_S", "300"))
NUM_STRETCHES = 5  # of overload: what the machine can do is measured between them
ABORTS = int(os.environ.get("SOAK_ABORTS", "10000"))
PROBES = int(os.environ.get("SOAK_PROBES", "100000"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "20000"))
REPORT = Path(os.environ.get("SOAK_REPORT", ROOT / "build" / "soak.json"))
MAX_SLOPE_MIB_PER_MIN = 0.5
"""Of memory, once the KV pages have been touched: what noise of the allocator may look like."""
WARM_REQUESTS = 12_000
"""Until every list of what was last, every pool and every cache of the allocator is full."""
MAX_BYTES_PER_REQUEST = 48
"""Of memory that a request may leave behind: less than the smallest object of Python's."""
LEAVING_SHARE = 0.2
NUM_SEATS, NUM_WAITING = 16, 32
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
"""What a third of the mixed answers have to look like."""


_reports: dict[str, dict[str, Any]] = {}


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What a test finds: part of the file once it ends, whether it passes or not."""
    found = _reports[request.node.name] = {}
    yield found
    write_record({"machine": machine_facts(), "model": Path(MODEL).name, "tests": _reports}, REPORT)


class Server:
    """A `miaotui serve` process, and what can be seen of it from outside."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def memory_mib(self) -> float:
        """Of its own: pages of files come and go with what other processes need."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) / 1024

    def num_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def metric(self, name: str) -> float:
        lines = httpx.get(self.url + "/metrics", timeout=60).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"miaotui_{name}[ {{]", line))

    def until_idle(self) -> None:
        deadline = time.monotonic() + 120
        while self.metric("requests_running") + self.metric("requests_waiting") > 0:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def leaked_pages(self) -> int:
        self.until_idle()
        return int(self.metric("kv_pages_used"))


@pytest.fixture
def server() -> Iterator[Server]:
    limits = ("--max-sequences", str(NUM_SEATS), "--max-waiting", str(NUM_WAITING))
    with served(MODEL, "--kv-memory", "128MiB", *limits) as (process, url):
        yield Server(process, url)


def slope_per_min(times_s: list[float], values: list[float]) -> float:
    return float(np.polyfit(np.array(times_s) / 60, np.array(values), 1)[0])


def test_mixed_load_leaks_neither_pages_nor_memory_nor_files(
    server: Server,
    report_faults: Callable[[str, int, int], None],
    report: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(1)
    times_s: list[float] = []
    memory_mib: list[float] = []
    files: list[int] = []
    statuses: list[int] = []
    begin_s = time.monotonic()

    async def watch() -> None:
        while time.monotonic() - begin_s < MIXED_S:
            times_s.append(time.monotonic() - begin_s)
            memory_mib.append(server.memory_mib())
            files.append(server.num_files())
            await asyncio.sleep(max(MIXED_S / 200, 0.1))

    async def client() -> None:
        while time.monotonic() - begin_s < MIXED_S:
            if rng.random() < LEAVING_SHARE:
                await leave(server.url, rng, most_words=600, most_tokens=200, patience_s=3.0)
                continue
            body = {
                "prompt": some_text(rng, rng.randint(1, 300)),
                "max_tokens": rng.randint(1, 80),
                "n": rng.choice((1, 2)),
                "guided_json": rng.choice((None, None, SCHEMA)),
            }
            statuses.append((await ask(server.url, body | {"stream": rng.random() < 0.5})).status)

    async def main() -> None:
        await asyncio.gather(watch(), *(client() for _ in range(12)))

    asyncio.run(main())
    leaked = server.leaked_pages()
    settled = len(times_s) // 2
    slope = slope_per_min(times_s[settled:], memory_mib[settled:])
    report |= {"seconds": MIXED_S, "statuses": Counter(statuses), "leaving_share": LEAVING_SHARE}
    report |= {"kv_pages_leaked": leaked, "memory_slope_mib_per_min": slope, "files_at_the_end": server.num_files()}
    report |= {"times_s": times_s, "memory_mib": memory_mib, "files": files}
    with capsys.disabled():
        print(
            f"\n{len(statuses)} answers; {memory_mib[settled]:.1f} MiB at half time, {memory_mib[-1]:.1f} at the end, "
            f"slope {slope:+.3f} MiB/min; files {min(files)} to {max(files)}, {server.num_files()} at the end"
        )
    assert slope < MAX_SLOPE_MIB_PER_MIN
    assert server.num_files() <= min(files) + 4
    report_faults("mixed load, a fifth leaving", len(statuses), leaked + sum(status != 200 for status in statuses))


def test_many_small_requests_leave_no_memory_behind(
    tiny_model: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(4)
    limits = ("--kv-memory", "1MiB", "--max-sequences", str(NUM_SEATS))
    with served(str(tiny_model), *limits) as (process, url):
        server = Server(process, url)

        async def ask_often(client: httpx.AsyncClient, count: int) -> None:
            for _ in range(count):
                body = {"prompt": some_text(rng, 12), "max_tokens": 2, "stream": rng.random() < 0.5}
                reply = await client.post(url + "/v1/completions", json=body)
                assert reply.status_code == 200

        async def main(count: int) -> None:
            async with httpx.AsyncClient(timeout=60) as client:
                await asyncio.gather(*(ask_often(client, count // 8) for _ in range(8)))

        asyncio.run(main(WARM_REQUESTS))
        before_mib = server.memory_mib()
        asyncio.run(main(REQUESTS))
        leaked, left = server.leaked_pages(), (server.memory_mib() - before_mib) * 2**20 / REQUESTS
    report |= {"requests": REQUESTS, "kv_pages_leaked": leaked, "bytes_left_by_a_request": left}
    with capsys.disabled():
        print(f"\n{left:.0f} bytes left by each of {REQUESTS} requests")
    assert leaked == 0
    assert left < MAX_BYTES_PER_REQUEST


def test_twice_the_capacity_is_refused_in_time_and_the_rest_is_served(
    server: Server,
    report_faults: Callable[[str, int, int], None],
    report: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = {"prompt": "the cat and the dog", "max_tokens": 32, "temperature": 0, "ignore_eos": True, "drafting": False}
    besieger = Besieger(server.url, body, NUM_SEATS, NUM_WAITING)
    stretch_s = OVERLOAD_S / NUM_STRETCHES
    siege = asyncio.run(besieger.besiege(NUM_STRETCHES, stretch_s, min(stretch_s / 4, 10)))
    refused_s = statistics.quantiles(siege.tally.refused_s, n=100)
    with capsys.disabled():
        print(f"\n{siege}; refused in {refused_s[98] * 1e3:.0f} ms (99 %)")
    report |= {"stretches": NUM_STRETCHES, "seconds_each": stretch_s, "statuses": siege.tally.statuses}
    report |= {"goodput_of_capacity": siege.goodput, "accepted_of_alone": siege.accepted}
    report |= {"slowest_of_alone": siege.slowest, "ready_s": siege.ready_s, "problems": siege.tally.problems}
    report |= {"refused_s": siege.tally.refused_s, "accepted_s": siege.tally.accepted_s}
    report["kv_pages_leaked"] = leaked = server.leaked_pages()
    report_faults("requests at twice the capacity", siege.tally.num_cases, len(siege.tally.problems) + leaked)
    assert refused_s[98] <= 0.05
    besieger.check(siege)


def test_nothing_is_left_of_those_who_leave(
    server: Server, report_faults: Callable[[str, int, int], None], report: dict[str, Any]
) -> None:
    rng = random.Random(2)

    async def main() -> None:
        job = partial(leave, server.url, rng, most_words=300, most_tokens=100, patience_s=0.1)
        await at_once([job] * ABORTS, 24)

    asyncio.run(main())
    report |= {"requests": ABORTS, "kv_pages_leaked": (leaked := server.leaked_pages())}
    report_faults("requests that were left, KV pages leaked", ABORTS, leaked)


def test_no_tenant_finds_what_another_has_asked(
    tiny_model: Path, report_faults: Callable[[str, int, int], None], report: dict[str, Any]
) -> None:
    """With the tests' tiny model: whose prefixes are found does not depend on what the model computes from them."""
    rng = random.Random(3)
    stolen = own = 0
    tenants = [f"tenant {number}" for number in range(8)]

    async def probe(llm: AsyncLLM) -> None:
        nonlocal stolen, own
        was_stolen, was_own = await spy(llm, rng, tenants, 20)
        stolen += was_stolen
        own += was_own

    async def main() -> None:
        async with AsyncLLM(tiny_model, context_length=1000) as llm:
            await at_once((partial(probe, llm) for _ in range(PROBES)), 16)

    asyncio.run(main())
    report |= {"probes": PROBES, "found_by_their_tenant": own, "found_by_another": stolen}
    assert own > 0.9 * PROBES, "the probes could have hit"
    report_faults("prefixes found by another tenant", PROBES, stolen)
