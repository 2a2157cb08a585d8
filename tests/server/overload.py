"""A server at twice its capacity, compared with itself when it has just enough to do."""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass, field
from typing import Any

from server.load import LEAST_ROUNDS, Tally, ask, closed_loop, open_loop

READY_GAP_S = 0.05
LEAST_GOODPUT = 0.9
"""Of the capacity, at twice that."""
SLACK = 1.25
"""Of a median that is expected to be so long at most: others use the machine, too."""


@dataclass(frozen=True)
class Calm:
    """Answers a second with every seat taken and nobody refused, and seconds of one where nobody waits."""

    capacity: float
    alone_s: float


@dataclass
class Siege:
    """What an overload of several stretches came to.

    goodput: answers a second, of the capacity just before and after. accepted, slowest: how long an answer took, the
    median and the longest, of how long it takes where nobody waits. One number a stretch, all of them. ready_s: how
    long `/ready` took meanwhile.
    """

    tally: Tally = field(default_factory=Tally)
    goodput: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    slowest: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ms = [f"{statistics.median(values) * 1e3:.1f}" for values in (self.tally.refused_s, self.ready_s)]
        lists = (self.goodput, self.accepted, self.slowest)
        goodput, accepted, slowest = (" ".join(f"{value:.2f}" for value in each) for each in lists)
        return (
            f"{dict(self.tally.statuses)}; goodput {goodput} of the capacity; accepted answers took {accepted}, at "
            f"most {slowest} times as long as without waiting; refused in {ms[0]} ms, ready in {ms[1]} ms (medians)"
        )


@dataclass(frozen=True)
class Besieger:
    """Asks a server that answers num_seats requests at once and lets num_waiting others wait."""

    url: str
    body: dict[str, Any]
    num_seats: int
    num_waiting: int

    @property
    def num_places(self) -> int:
        return self.num_seats + self.num_waiting

    async def besiege(self, num_stretches: int, overload_s: float, calm_s: float) -> Siege:
        """Twice the capacity for so many stretches; what is not overloaded is measured before, between and behind.

        Machines that are shared change their speed by a factor of two within minutes, hardly within seconds.
        """
        siege, before = Siege(), await self._calm(calm_s)
        for _ in range(num_stretches):
            seconds = max(overload_s, LEAST_ROUNDS * self.num_places / before.capacity)
            load = asyncio.create_task(open_loop(self.url, self.body, 2 * before.capacity, seconds))
            while not load.done():
                siege.ready_s.append((await ask(self.url, None, path="/ready")).seconds)
                await asyncio.sleep(READY_GAP_S)
            stretch, after = await load, await self._calm(calm_s)
            capacity, alone_s = (before.capacity + after.capacity) / 2, (before.alone_s + after.alone_s) / 2
            siege.goodput.append(stretch.rate(self.num_places) / capacity)
            siege.accepted.append(statistics.median(stretch.accepted_s) / alone_s)
            siege.slowest.append(max(stretch.accepted_s) / alone_s)
            siege.tally.add(stretch)
            before = after
        return siege

    def check(self, siege: Siege) -> None:
        """Fail where those who were let in lost by those who were not, or these were not refused."""
        tally = siege.tally
        turns = self.num_places / self.num_seats  # until who comes last is answered, by Little's law
        assert set(tally.statuses) == {200, 429}, (tally.statuses, tally.problems[:3])
        assert statistics.median(siege.goodput) >= LEAST_GOODPUT, str(siege)
        assert statistics.median(siege.accepted) <= SLACK * turns, str(siege)
        assert statistics.median(siege.slowest) <= 2 * turns, str(siege)

    async def _calm(self, seconds: float) -> Calm:
        num_clients = self.num_seats + self.num_waiting // 2  # so that no seat is ever empty, and nobody too many
        full = await closed_loop(self.url, self.body, num_clients, seconds)
        seated = await closed_loop(self.url, self.body, self.num_seats, seconds / 2)
        return Calm(full.rate(num_clients), statistics.median(seated.accepted_s))
