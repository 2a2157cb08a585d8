"""Many clients leave, come all at once, or spy on each other, as long as a test may take; tests/soak takes longer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from miaotui.engine.async_llm import AsyncLLM
from miaotui.server.keys import parse_keys
from server.conftest import Running
from server.load import Tally, ask, at_once, capacity, leave, open_loop, some_text, spy

ABORTS = 200
PROBES = 2000


def idle(running: Running) -> None:
    running.until(lambda: not running.llm.llm.loaded.engine.scheduler.has_work and not running.llm.num_waiting)
    running.until(lambda: not running.llm._answers and not running.llm._leaving)


def test_who_leaves_at_any_moment_leaks_nothing_and_changes_nobodys_answer(
    start: Any, report_faults: Callable[[str, int, int], None]
) -> None:
    options = {"context_length": 1000, "max_tokens_per_step": 32, "max_sequences": 4, "kv_memory_bytes": 1 << 20}
    rng = random.Random(11)
    texts = [some_text(rng, words) for words in (1, 30, 60)]
    with start(options, max_waiting=1000, log_format="json") as running:
        bodies = [{"prompt": text, "max_tokens": 40, "temperature": 0, "ignore_eos": True} for text in texts]
        want = [httpx.post(running.url + "/v1/completions", json=body).json()["choices"] for body in bodies]
        changed: list[Any] = []

        async def neighbour(number: int) -> None:
            reply = await ask(running.url, bodies[number % len(bodies)])
            if reply.status != 200 or reply.json["choices"] != want[number % len(bodies)]:
                changed.append(reply)

        async def main() -> None:
            leaving = partial(leave, running.url, rng, most_words=150, most_tokens=400, patience_s=0.3)
            jobs = [partial(neighbour, number) if number % 5 == 0 else leaving for number in range(ABORTS * 5 // 4)]
            await at_once(jobs, 16)

        asyncio.run(main())
        idle(running)
        engine = running.llm.llm.loaded.engine
        engine.check_integrity()
        leaked = engine.scheduler.pool.num_blocks - engine.scheduler.pool.num_free
        running.until(lambda: len(running.lines) >= ABORTS)
    left = [line for line in map(json.loads, running.lines) if line["finish"] == "cancelled"]
    assert len({line["output_tokens"] > 0 for line in left}) == 2, "some left before their first token, some after"
    assert not changed
    report_faults("requests that were left, KV pages leaked or answers changed", ABORTS, leaked + len(changed))


def test_too_many_requests_are_refused_and_the_others_answered(
    start: Any, report_faults: Callable[[str, int, int], None]
) -> None:
    body = {"prompt": "the cat", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
    tally, seconds, num_places = Tally(), 4.0, 2 + 4
    with start({"max_sequences": 2}, max_waiting=4) as running:

        async def main() -> float:
            """The lower of the capacities before and afterwards: other processes come and go on this machine."""
            before = await capacity(running.url, body, 4, 1.0)
            await open_loop(running.url, body, 2 * before, seconds, tally)
            idle(running)
            return min(before, await capacity(running.url, body, 4, 1.0))

        rate = asyncio.run(main())
        idle(running)
    assert set(tally.statuses) == {200, 429}, (tally.statuses, tally.problems[:3])
    goodput = tally.statuses[200] / tally.seconds
    fair_s = num_places / goodput  # by Little's law: nobody waits behind more than there are places
    seen = f"{goodput / rate:.2f} of the capacity; fair {fair_s:.3f} s, accepted in {max(tally.accepted_s):.3f} s"
    seen += f" at most, refused in {max(tally.refused_s):.3f} s at most"
    assert goodput > 0.4 * rate, seen
    assert max(tally.accepted_s) < 30 * fair_s, seen
    assert max(tally.refused_s) < 2 * max(tally.accepted_s), seen  # in the same process, at the same moments
    report_faults("requests beyond capacity", tally.num_cases, len(tally.problems))


@pytest.mark.parametrize("tenants", [("", "a"), tuple(f"tenant {number}" for number in range(8))])
def test_no_tenant_finds_what_another_has_asked(
    tiny_model: Path, tenants: tuple[str, ...], report_faults: Callable[[str, int, int], None]
) -> None:
    rng = random.Random(5)
    hits: list[tuple[bool, bool]] = []

    async def probe(llm: AsyncLLM) -> None:
        hits.append(await spy(llm, rng, tenants, 40))

    async def main() -> None:
        async with AsyncLLM(tiny_model, context_length=1000, max_sequences=8) as llm:
            await at_once([partial(probe, llm)] * (PROBES // 2), 8)

    asyncio.run(main())
    assert all(own for _, own in hits), "who asked before finds it again: the probes could have hit"
    report_faults(f"prefixes of {len(tenants)} tenants, found by another", len(hits), sum(stolen for stolen, _ in hits))


def test_keys_are_what_keeps_tenants_apart(start: Any) -> None:
    body = {"prompt": "the house of stone " * 4, "max_tokens": 1}
    with start(keys=parse_keys(["one", "two"], "here")) as running:

        def cached(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            reply = httpx.post(running.url + "/v1/completions", json=body, headers=headers).json()
            return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert (cached("one"), cached("two")) == (0, 0)
        assert min(cached("one"), cached("two")) > 0
