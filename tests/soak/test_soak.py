"""`make soak`: hours of a server's life in minutes, against a real `miaotui serve` with a real model.

SOAK_MODEL, SOAK_MIXED_S, SOAK_OVERLOAD_S, SOAK_ABORTS and SOAK_PROBES set the model and the scale. What was found is
written to SOAK_REPORT (build/soak.json) as tests end, with every sample and the machine's facts.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
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
from server.conftest import tiny_model as tiny_model  # a fixture
from server.load import Tally, ask, at_once, capacity, leave, open_loop, some_text, spy

pytestmark = pytest.mark.soak

MODEL = os.environ.get("SOAK_MODEL", "smollm2:135m")
MIXED_S = float(os.environ.get("SOAK_MIXED_S", "600"))
OVERLOAD_S = float(os.environ.get("SOAK_OVERLOAD_S", "300"))
ABORTS = int(os.environ.get("SOAK_ABORTS", "10000"))
PROBES = int(os.environ.get("SOAK_PROBES", "100000"))
REPORT = Path(os.environ.get("SOAK_REPORT", ROOT / "build" / "soak.json"))
MAX_SLOPE_MIB_PER_MIN = 0.5
"""Of memory, once the KV pages have been touched: what noise of the allocator may look like."""
LEAVING_SHARE = 0.2
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
    options = ["--port", "0", "--kv-memory", "128MiB", "--max-waiting", "32", "--log-format", "none"]
    command = [sys.executable, "-m", "miaotui", "serve", MODEL, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    found = next(match for line in lines if (match := re.search(r"^url +(http://.*)/v1", line)))
    try:
        yield Server(process, found[1])
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


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


def test_twice_the_capacity_is_refused_in_time_and_the_rest_is_served(
    server: Server,
    report_faults: Callable[[str, int, int], None],
    report: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = {"prompt": "the cat and the dog", "max_tokens": 32, "temperature": 0, "ignore_eos": True}
    tally = Tally()

    async def main() -> tuple[float, float]:
        """Requests a second, before and after: machines slow down under load."""
        seconds = min(OVERLOAD_S / 10, 20)
        before = await capacity(server.url, body, 16, seconds)
        await open_loop(server.url, body, 2 * before, OVERLOAD_S, tally)
        return before, await capacity(server.url, body, 16, seconds)

    rates = asyncio.run(main())
    rate, goodput = statistics.fmean(rates), tally.statuses[200] / OVERLOAD_S
    report |= {"seconds": OVERLOAD_S, "capacity_per_s": rates, "goodput_per_s": goodput, "statuses": tally.statuses}
    report |= {"problems": tally.problems, "refused_s": tally.refused_s, "accepted_s": tally.accepted_s}
    refused_s = statistics.quantiles(tally.refused_s, n=100)
    accepted_s = statistics.quantiles(tally.accepted_s, n=100)
    with capsys.disabled():
        print(
            f"\ncapacity {rate:.1f}/s; at twice that {dict(tally.statuses)}, goodput {goodput / rate:.0%}; refused in "
            f"{refused_s[49] * 1e3:.0f} ms (median), {refused_s[98] * 1e3:.0f} ms (99 %); "
            f"accepted {accepted_s[49]:.2f} s (median), {accepted_s[98]:.2f} s (99 %)"
        )
    assert set(tally.statuses) == {200, 429}
    report["kv_pages_leaked"] = leaked = server.leaked_pages()
    report_faults("requests at twice the capacity", tally.num_cases, len(tally.problems) + leaked)
    assert refused_s[98] <= 0.05
    assert goodput >= 0.9 * rate


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
