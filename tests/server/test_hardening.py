"""Many clients leave, come all at once, or spy on each other, as long as a test may take; tests/soak takes longer."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from miaotui.adaptive import AdaptiveDrafter, PastAnswers
from miaotui.engine.async_llm import AsyncLLM
from miaotui.server.keys import parse_keys
from server.conftest import Running
from server.load import ask, at_once, leave, some_text, spy
from server.overload import Besieger

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


NUM_STRETCHES, OVERLOAD_S, CALM_S = 6, 5.0, 1.5
"""Half a minute of overload in all, and half as much to compare it with."""
NUM_SEATS, NUM_WAITING = 2, 4
STEP_S = 0.02


def pace_steps(running: Running) -> None:
    """Have every step take so long at least, most of it idle: what is served depends on whom the server lets in, and
    hardly on who else uses the processors. tests/soak asks the same of a model at its own pace.
    """
    engine = running.llm.llm.loaded.engine

    def paced() -> Any:
        end_s = time.monotonic() + STEP_S
        updates = type(engine).step(engine)
        time.sleep(max(end_s - time.monotonic(), 0.0))
        return updates

    engine.step = paced


def test_twice_the_capacity_costs_those_who_are_accepted_nothing_and_those_who_are_refused_no_time(
    start: Any, report_faults: Callable[[str, int, int], None]
) -> None:
    body = {"prompt": "the cat", "max_tokens": 10, "temperature": 0, "ignore_eos": True, "drafting": False}
    with start({"max_sequences": NUM_SEATS}, max_waiting=NUM_WAITING) as running:
        pace_steps(running)
        besieger = Besieger(running.url, body, NUM_SEATS, NUM_WAITING)
        siege = asyncio.run(besieger.besiege(NUM_STRETCHES, OVERLOAD_S, CALM_S))
        idle(running)
    tally = siege.tally
    besieger.check(siege)
    # In the same process, at the same moments.
    assert statistics.median(tally.refused_s) <= 2.5 * statistics.median(siege.ready_s), str(siege)
    report_faults("requests at twice the capacity", tally.num_cases, len(tally.problems))


def test_who_is_refused_waits_for_no_step(start: Any) -> None:
    body = {"prompt": "the cat", "max_tokens": 5}
    with start({"max_sequences": 2}, max_waiting=4, stalled_s=300, hung_s=300) as running:
        engine, may_go_on = running.llm.llm.loaded.engine, threading.Event()

        def held() -> Any:
            may_go_on.wait()
            return type(engine).step(engine)

        engine.step = held

        async def main() -> list[int]:
            accepted = [asyncio.create_task(ask(running.url, body)) for _ in range(6)]
            try:
                async with asyncio.timeout(30):
                    while running.llm.num_waiting + running.llm.num_running < 6:
                        await asyncio.sleep(0.005)
                    refused = [await ask(running.url, body) for _ in range(3)]
            finally:
                may_go_on.set()
            return [reply.status for reply in (*refused, *[await task for task in accepted])]

        assert asyncio.run(main()) == [429] * 3 + [200] * 6


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


class WatchedAnswers(PastAnswers):
    """Remembers how many tokens the first look of a request agreed with a past answer in."""

    first: int | None = None

    def find(self, tenant: str, token_ids: list[int], count: int) -> tuple[int, list[int]]:
        found = super().find(tenant, token_ids, count)
        self.first = found[0] if self.first is None else self.first
        return found


def test_no_tenant_is_drafted_for_from_what_another_was_answered(
    start: Any, report_faults: Callable[[str, int, int], None]
) -> None:
    """Over HTTP, by keys. Of prompts of 30 random words nobody shares 20 tokens with another one by chance."""
    rng, past, probes = random.Random(3), WatchedAnswers(1 << 20), 100
    drafter = AdaptiveDrafter(past)
    hits: list[tuple[bool, bool]] = []
    with start({"drafter": drafter, "context_length": 1000}, keys=parse_keys(["one", "two"], "here")) as running:

        def finds(key: str, prompt: str) -> bool:
            past.first = None
            body = {"prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
            headers = {"authorization": f"Bearer {key}"}
            reply = httpx.post(running.url + "/v1/completions", json=body, headers=headers)
            assert reply.status_code == 200
            return past.first is not None and past.first >= 20

        for _ in range(probes):
            owner, other = rng.sample(["one", "two"], 2)
            prompt = some_text(rng, 30)
            assert not finds(owner, prompt)
            hits.append((finds(other, prompt), finds(owner, prompt)))
    assert all(own for _, own in hits), "who was answered before is drafted for: the probes could have hit"
    report_faults("past answers of a tenant, found for another", probes, sum(stolen for stolen, _ in hits))


def test_keys_are_what_keeps_tenants_apart(start: Any) -> None:
    body = {"prompt": "the house of stone " * 4, "max_tokens": 1}
    with start(keys=parse_keys(["one", "two"], "here")) as running:

        def cached(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            reply = httpx.post(running.url + "/v1/completions", json=body, headers=headers).json()
            return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert (cached("one"), cached("two")) == (0, 0)
        assert min(cached("one"), cached("two")) > 0
