"""When requests are sent: so many clients that each wait for their answer, or arrivals that wait for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

from miaotui.load.outcome import Outcome
from miaotui.load.prompts import Job
from miaotui.load.shapes import Shape
from miaotui.load.words import dice

Ask = Callable[[Job, float], Awaitable[Outcome]]
Record = Callable[[Outcome], None]

FAULT_PAUSE_S = 0.1
"""A client that was refused waits so long, or it would do nothing but be refused again."""


class Clock(Protocol):
    """Time in seconds, and waiting for it."""

    def now(self) -> float:
        """Seconds since some moment."""

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks go on."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.perf_counter()

    async def sleep(self, seconds: float) -> None:
        """Wait; other tasks go on."""
        await asyncio.sleep(seconds)


async def closed_loop(
    jobs: Iterator[Job],
    num_clients: int,
    ask: Ask,
    record: Record,
    clock: Clock,
    *,
    think_s: float = 0.0,
    duration_s: float | None = None,
) -> None:
    """Each client sends a job, waits for its end, thinks, and takes the next; after duration_s none takes another."""
    end_s = float("inf") if duration_s is None else clock.now() + duration_s

    async def client() -> None:
        while clock.now() < end_s and (job := next(jobs, None)) is not None:
            outcome = await ask(job, clock.now())
            record(outcome)
            await clock.sleep(max(think_s, FAULT_PAUSE_S if outcome.fault else 0.0))

    async with asyncio.TaskGroup() as clients:
        for _ in range(num_clients):
            clients.create_task(client())


async def open_loop(
    jobs: Iterator[Job],
    arrivals_s: Iterator[float],
    ask: Ask,
    record: Record,
    clock: Clock,
    *,
    duration_s: float | None = None,
) -> None:
    """Send each job when it is due, whatever became of those before it; arrivals_s counts from the start.

    A job that is sent late, because this process was busy, is still due when it was: its latency holds the delay.
    """
    start_s = clock.now()

    async def answer(job: Job, due_s: float) -> None:
        record(await ask(job, due_s))

    async with asyncio.TaskGroup() as answers:
        # Jobs are made before they are due, so that making them delays nothing.
        for job, arrival_s in zip(jobs, arrivals_s, strict=False):
            if duration_s is not None and arrival_s > duration_s:
                break
            await clock.sleep(max(0.0, start_s + arrival_s - clock.now()))
            answers.create_task(answer(job, start_s + arrival_s))


def poisson(rate: float, seed: object) -> Iterator[float]:
    """Arrival times in seconds, `rate` a second on average, independent of each other."""
    gaps, at_s = dice("arrivals", seed), 0.0
    while True:
        at_s += gaps.expovariate(rate)
        yield at_s


def constant(rate: float) -> Iterator[float]:
    """Arrival times in seconds, `rate` a second, evenly spaced."""
    number = 0
    while True:
        yield number / rate
        number += 1


def replayed(shapes: Iterable[Shape], rate_scale: float) -> Iterator[float]:
    """Arrival times of a trace in seconds, rate_scale times as fast."""
    for shape in shapes:
        yield (shape.arrival_s or 0.0) / rate_scale
