"""One machine that reads and answers in steps, as a fluid: between two events everything goes on at constant rates.

Answers that run share steps, so each gets one token a step, and steps take the longer the more there are and while a
prompt is read: generalized processor sharing (Kleinrock, Queueing Systems II, section 4.4) with rates from the fitted
prices. Prompts are read one after the other, as many tokens a step as `StepBudget` allows; places are given by arrival.
What a real scheduler does beyond that (turns of tenants, preemption, several prompts in one step) moves single
requests, and means by little; steps one by one would take a hundred times as long to simulate. A request that does less
work never delays another one here, which is what lets an oracle be one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from miaotui.adaptive.simulation.questions import Question
from miaotui.adaptive.simulation.world import Rates, World, gain_at
from miaotui.engine.prospect import Load
from miaotui.engine.step_work import StepWork


@dataclass(slots=True, eq=False)
class Job:
    """A question that the machine computes. drafts: whether its tokens are drafted; None: whenever that gains.

    Times are milliseconds of the simulation; unread and unsaid tokens are counted down.
    """

    question: Question
    drafts: bool | None
    begin_ms: float
    unread: float = field(init=False)
    unsaid: float = field(init=False)
    placed_ms: float = math.nan
    read_ms: float = math.nan
    end_ms: float = math.nan
    num_drafted: float = 0.0

    def __post_init__(self) -> None:
        self.unread = float(self.question.prompt_tokens)
        self.unsaid = float(max(self.question.output_tokens - 1, 0))

    def gain(self, num_answering: int) -> float:
        """How many times as fast as one a step its tokens come."""
        if self.drafts is False:
            return 1.0
        gain = gain_at(self.question.draft_gain, num_answering)
        return max(gain, 1.0) if self.drafts is None else gain


class Box:
    """The machine. `advance` lets time pass until something ends; jobs are added between."""

    def __init__(self, world: World, position: float) -> None:
        self.now_ms = 0.0
        self.busy_ms = 0.0
        self._rates = Rates(world, position)
        self._position = position
        self._max_sequences = world.max_sequences
        self._waiting: deque[Job] = deque()
        self._reading: deque[Job] = deque()
        self._answering: list[Job] = []

    @property
    def load(self) -> Load:
        """As an engine tells it."""
        return Load(len(self._answering), len(self._reading), len(self._waiting), self._max_sequences)

    def tokens_before(self) -> int:
        """Of prompts that are read before one that comes now: they take turns here, in the order they came."""
        return int(sum(job.unread for job in (*self._reading, *self._waiting)))

    @property
    def step(self) -> tuple[StepWork, float]:
        """What the steps of this moment do, and how long they take; nothing of both when there is nothing to do."""
        num = len(self._answering)
        if not num and not self._reading:
            return StepWork(0), 0.0
        ms, tokens = self._rates.step(num, reads=bool(self._reading))
        drafted = [job for job in self._answering if job.drafts is not False]
        said = sum(job.gain(num) for job in drafted) + num - len(drafted)
        pairs = (num + tokens) * self._position / 1024
        return StepWork(num, int(tokens), 0, num, pairs, len(drafted), said), ms

    def add(self, job: Job) -> None:
        """One more to compute, from now on."""
        self._waiting.append(job)
        self._place()

    def advance(self, until_ms: float) -> list[Job]:
        """Let time pass, but no longer than until the next job ends or has been read; those that have ended."""
        rates = self._present()
        left_ms = min((left / rate for _, left, rate in rates), default=math.inf)
        pass_ms = max(min(left_ms, until_ms - self.now_ms), 0.0)
        self.now_ms = until_ms if left_ms > until_ms - self.now_ms else self.now_ms + pass_ms
        self.busy_ms += pass_ms if rates else 0.0
        for job, left, rate in rates:
            rest = 0.0 if left / rate <= left_ms and pass_ms == left_ms else left - rate * pass_ms
            if job.unread > 0:
                job.unread = rest
            else:
                job.unsaid = rest
        return self._settle()

    def _present(self) -> list[tuple[Job, float, float]]:
        """Jobs that get on, what is left of their phase in tokens, and tokens a millisecond."""
        num = len(self._answering)
        if not num and not self._reading:
            return []
        step_ms, tokens = self._rates.step(num, reads=bool(self._reading))
        found = [(job, job.unsaid, job.gain(num) / step_ms / job.question.noise) for job in self._answering]
        if self._reading:
            first = self._reading[0]
            found.append((first, first.unread, tokens / step_ms / first.question.noise))
        return found

    def _settle(self) -> list[Job]:
        """Move those on whose phase has ended."""
        ended: list[Job] = []
        while self._reading and self._reading[0].unread <= 0:
            job = self._reading.popleft()
            job.read_ms = self.now_ms
            self._answering.append(job)
        for job in [one for one in self._answering if one.unsaid <= 0]:
            self._answering.remove(job)
            job.end_ms = self.now_ms
            ended.append(job)
        self._place()
        return ended

    def _place(self) -> None:
        while self._waiting and len(self._reading) + len(self._answering) < self._max_sequences:
            job = self._waiting.popleft()
            job.placed_ms = self.now_ms
            self._reading.append(job)
