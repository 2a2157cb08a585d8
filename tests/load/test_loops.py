"""When requests are sent, on a clock that only moves when everybody waits."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Iterator

import pytest

from miaotui.load.loops import closed_loop, constant, open_loop, poisson, replayed
from miaotui.load.outcome import Fault, Outcome
from miaotui.load.prompts import Job
from miaotui.load.shapes import Shape

SHAPE = Shape(1, 1)


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._numbers), waiting))
        await waiting

    def run(self, work: Awaitable[None]) -> None:
        async def main() -> None:
            task = asyncio.ensure_future(work)
            while not task.done():
                for _ in range(20):  # until everybody waits
                    await asyncio.sleep(0)
                if not task.done():
                    wake_s, _, waiting = heapq.heappop(self._sleepers)
                    self.now_s = max(self.now_s, wake_s)
                    waiting.set_result(None)
            task.result()

        asyncio.run(main())


class FakeService:
    """Answers each request after so many seconds, and remembers how many were under way."""

    def __init__(self, clock: FakeClock, seconds: float, fault: Fault | None = None) -> None:
        self.clock, self.seconds, self.fault = clock, seconds, fault
        self.outcomes: list[Outcome] = []
        self.sent: list[tuple[int, float]] = []
        self.under_way = self.most_under_way = 0

    async def ask(self, job: Job, due_s: float) -> Outcome:
        self.sent.append((job.number, self.clock.now()))
        outcome = Outcome(SHAPE, due_s, self.clock.now(), fault=self.fault)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.clock.sleep(self.seconds)
        self.under_way -= 1
        outcome.end_s = self.clock.now()
        return outcome


def jobs(count: int | None = None) -> Iterator[Job]:
    return (Job(number, SHAPE, b"") for number in (range(count) if count is not None else itertools.count()))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_closed_loop_keeps_so_many_requests_under_way_and_sends_each_once(clock: FakeClock) -> None:
    service = FakeService(clock, 2)
    clock.run(closed_loop(jobs(10), 4, service.ask, service.outcomes.append, clock))
    assert service.most_under_way == 4
    assert sorted(number for number, _ in service.sent) == list(range(10))
    assert len(service.outcomes) == 10
    assert clock.now() == 3 * 2  # ten requests, four at a time


def test_a_client_thinks_between_requests(clock: FakeClock) -> None:
    service = FakeService(clock, 2)
    clock.run(closed_loop(jobs(3), 1, service.ask, service.outcomes.append, clock, think_s=5))
    assert [at_s for _, at_s in service.sent] == [0, 7, 14]
    assert [outcome.whole_s for outcome in service.outcomes] == [2, 2, 2]


def test_closed_loop_begins_nothing_after_its_duration_but_waits_for_what_runs(clock: FakeClock) -> None:
    service = FakeService(clock, 4)
    clock.run(closed_loop(jobs(), 2, service.ask, service.outcomes.append, clock, duration_s=10))
    assert sorted(at_s for _, at_s in service.sent) == [0, 0, 4, 4, 8, 8]
    assert len(service.outcomes) == 6


def test_a_refused_client_does_not_spin(clock: FakeClock) -> None:
    service = FakeService(clock, 0, Fault("connect"))
    clock.run(closed_loop(jobs(), 1, service.ask, service.outcomes.append, clock, duration_s=1))
    assert 5 < len(service.sent) < 20


def test_open_loop_sends_when_due_whatever_became_of_those_before(clock: FakeClock) -> None:
    service = FakeService(clock, 100)
    clock.run(open_loop(jobs(5), constant(2), service.ask, service.outcomes.append, clock))
    assert service.sent == [(0, 0), (1, 0.5), (2, 1), (3, 1.5), (4, 2)]
    assert service.most_under_way == 5


def test_open_loop_counts_latency_from_when_a_late_request_was_due(clock: FakeClock) -> None:
    """No coordinated omission: the tool is held up for 10 s, and those who came meanwhile have waited."""

    def held_up() -> Iterator[Job]:
        for job in jobs(4):
            if job.number == 1:
                clock.now_s += 10
            yield job

    service = FakeService(clock, 1)
    clock.run(open_loop(held_up(), constant(1), service.ask, service.outcomes.append, clock))
    assert [at_s for _, at_s in service.sent] == [10, 10, 10, 10]
    by_due = sorted(service.outcomes, key=lambda outcome: outcome.due_s)
    assert [outcome.due_s for outcome in by_due] == [0, 1, 2, 3]
    assert [outcome.whole_s for outcome in by_due] == [11, 10, 9, 8]
    assert [outcome.sent_s - outcome.due_s for outcome in by_due] == [10, 9, 8, 7]


def test_open_loop_ends_with_its_duration(clock: FakeClock) -> None:
    service = FakeService(clock, 1)
    clock.run(open_loop(jobs(), constant(1), service.ask, service.outcomes.append, clock, duration_s=3))
    assert len(service.sent) == 4


def test_poisson_arrivals_rise_at_their_rate_and_differ_by_seed() -> None:
    times = list(itertools.islice(poisson(4, 1), 4000))
    assert times == sorted(times)
    assert 4000 / times[-1] == pytest.approx(4, rel=0.1)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.2)  # exponential
    assert times[:3] == list(itertools.islice(poisson(4, 1), 3)) != list(itertools.islice(poisson(4, 2), 3))


def test_a_trace_is_replayed_faster() -> None:
    assert list(replayed([Shape(1, 1, 0.0), Shape(1, 1, 3.0), Shape(1, 1, 5.0)], 2)) == [0, 1.5, 2.5]
