"""A whole measurement: find the server, learn its tokens, warm it up, run every level of load."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from miaotui.errors import ServerReplyError
from miaotui.load.client import Client, open_session
from miaotui.load.loops import Clock, RealClock, closed_loop, constant, open_loop, poisson, replayed
from miaotui.load.outcome import Outcome
from miaotui.load.prompts import Job, Scale, Writer
from miaotui.load.shapes import Demand, Shape
from miaotui.load.target import PATHS, Target, find_target, measure_scale

WARMUP_CLIENTS = 4


@dataclass(frozen=True, slots=True)
class Level:
    """How much load: clients that wait for their answers, or arrivals ("poisson", "constant": `rate` a second; "trace":
    `rate` times as fast as in the trace)."""

    clients: int | None = None
    arrivals: str = "poisson"
    rate: float = 0.0

    @property
    def label(self) -> str:
        """What the level is, for people."""
        if self.clients is not None:
            return f"{self.clients} client" + ("s" if self.clients > 1 else "")
        return f"trace × {self.rate:g}" if self.arrivals == "trace" else f"{self.rate:g} req/s {self.arrivals}"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is to be measured, once the command line is read. num_requests and duration_s bound each level's run."""

    root: str
    demand: Demand
    levels: tuple[Level, ...]
    model: str | None = None
    endpoint: str = "chat"
    api_key: str | None = None
    exact_output: bool = False
    shared_prefix_tokens: int = 0
    seed: int = 0
    num_warmups: int = 0
    num_requests: int | None = None
    duration_s: float | None = None
    think_s: float = 0.0
    timeout_s: float = 600.0
    retry: bool = False


@dataclass(slots=True)
class Run:
    """One level's outcomes so far. cpu_s: processor time of this process. is_whole: False when cut short by Ctrl-C."""

    level: Level
    start_s: float
    start_cpu_s: float
    outcomes: list[Outcome] = field(default_factory=list)
    cpu_s: float = 0.0
    is_whole: bool = False

    def record(self, outcome: Outcome) -> None:
        """Keep what came of one request."""
        self.outcomes.append(outcome)
        self.cpu_s = time.process_time() - self.start_cpu_s

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to the end of the last answer."""
        return max((outcome.end_s for outcome in self.outcomes), default=self.start_s) - self.start_s


@dataclass(slots=True)
class Measurement:
    """What is known so far; it grows while `measure` runs, so that Ctrl-C loses nothing."""

    options: LoadOptions
    target: Target | None = None
    scale: Scale = field(default_factory=Scale)
    runs: list[Run] = field(default_factory=list)


async def measure(measurement: Measurement, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Fill the measurement, level by level. Raises ServerReplyError where not one warm-up request is answered."""
    options, clock = measurement.options, clock or RealClock()
    async with open_session(options.api_key) as session:
        target = measurement.target = await find_target(session, options.root, options.model)
        writer = Writer(
            target.model,
            options.endpoint,
            seed=options.seed,
            shared_prefix_tokens=options.shared_prefix_tokens,
            exact_output=options.exact_output,
            with_receipt=target.owner == "miaotui",
        )
        measurement.scale = await measure_scale(session, target, writer)
        writer = replace(writer, scale=measurement.scale)
        url = target.root + PATHS[options.endpoint]
        client = Client(session, url, options.timeout_s, options.retry, clock.now)
        await _warm_up(options, writer, client, clock)
        for number, level in enumerate(options.levels):
            say(f"{level.label} …")
            run = Run(level, clock.now(), time.process_time())
            measurement.runs.append(run)
            await _run_level(number, run, options, writer, client, clock)
            run.is_whole = True


async def _warm_up(options: LoadOptions, writer: Writer, client: Client, clock: Clock) -> None:
    if not options.num_warmups:
        return
    outcomes: list[Outcome] = []
    jobs = writer.jobs(itertools.islice(options.demand.shapes(), options.num_warmups), "warm-up")
    await closed_loop(jobs, WARMUP_CLIENTS, client.ask, outcomes.append, clock)
    faults = [outcome.fault for outcome in outcomes if outcome.fault is not None]
    if faults and len(faults) == len(outcomes):
        raise ServerReplyError(
            f"no warm-up request was answered, the first for {faults[0].kind}: {faults[0].detail}; "
            "correct that, or use --warmup 0 to measure all the same"
        )


async def _run_level(number: int, run: Run, options: LoadOptions, writer: Writer, client: Client, clock: Clock) -> None:
    def shapes() -> Iterator[Shape]:
        return itertools.islice(options.demand.shapes(), options.num_requests)

    jobs: Iterator[Job] = writer.jobs(shapes(), number)
    level = run.level
    if level.clients is not None:
        await closed_loop(
            jobs,
            level.clients,
            client.ask,
            run.record,
            clock,
            think_s=options.think_s,
            duration_s=options.duration_s,
        )
        return
    arrivals = _arrivals(level, shapes(), f"{options.seed}:{number}")
    await open_loop(jobs, arrivals, client.ask, run.record, clock, duration_s=options.duration_s)


def _arrivals(level: Level, shapes: Iterator[Shape], seed: str) -> Iterator[float]:
    if level.arrivals == "trace":
        return replayed(shapes, level.rate)
    return poisson(level.rate, seed) if level.arrivals == "poisson" else constant(level.rate)


def run_measurement(measurement: Measurement, say: Callable[[str], None]) -> bool:
    """`measure` to its end or to Ctrl-C; whether it was the former."""
    try:
        asyncio.run(measure(measurement, say))
    except KeyboardInterrupt:
        return False
    return True
