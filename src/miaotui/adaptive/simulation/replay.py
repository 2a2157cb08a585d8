"""A trace replayed against one policy in simulated time."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from miaotui.adaptive.simulation.box import Box, Job
from miaotui.adaptive.simulation.policies import Look, Policy, State
from miaotui.adaptive.simulation.questions import Question
from miaotui.adaptive.simulation.world import World

STEP_NOISE = 0.05
"""Spread of single steps around their price, as a standard deviation of logarithms; means of many have less."""


@dataclass(slots=True)
class Outcome:
    """What came of a trace: milliseconds of each question from asking to the last token, by number; how often which
    path answered; and how long the machine was busy."""

    name: str
    took_ms: list[float]
    paths: Counter[str] = field(default_factory=Counter)
    busy_ms: float = 0.0


class Replay:
    """One run. The same questions, world and seed give the same outcome, whatever else ran before."""

    def __init__(self, questions: Sequence[Question], world: World, policy: Policy, seed: int) -> None:
        self._questions = questions
        self._world = world
        self._policy = policy
        self._dice = random.Random(f"steps {seed}")  # noqa: S311 (a simulation)
        position = sum(q.prompt_tokens + q.output_tokens / 2 for q in questions) / max(len(questions), 1)
        self._box = Box(world, position)
        self._outcome = Outcome(policy.name, [math.nan] * len(questions))
        self._begun: list[tuple[float, int, Look]] = []  # when which question has been looked for: a heap
        self._texts: set[int] = set()  # whose answers are kept
        self._meanings: set[int] = set()
        self._computing: dict[int, list[Question]] = {}  # by text, those who wait for somebody else's answer

    def run(self) -> Outcome:
        """Let everything happen."""
        come = 0
        while True:
            next_ms = self._questions[come].arrival_s * 1e3 if come < len(self._questions) else math.inf
            look_ms = self._begun[0][0] if self._begun else math.inf
            until_ms = min(next_ms, look_ms)
            self._tell_step()
            for job in self._box.advance(until_ms):
                self._end(job)
            if self._box.now_ms < until_ms:
                continue
            if until_ms == math.inf:
                break
            if look_ms <= next_ms:
                self._looked(*heapq.heappop(self._begun))
            else:
                self._ask(self._questions[come])
                come += 1
        self._outcome.busy_ms = self._box.busy_ms
        return self._outcome

    def _tell_step(self) -> None:
        work, ms = self._box.step
        if ms > 0:
            self._policy.stepped(work, ms * self._dice.lognormvariate(0, STEP_NOISE))

    def _state(self, question: Question) -> State:
        is_kept = question.text in self._texts or question.text in self._computing
        near = question.near_passes and question.meaning in self._meanings
        return State(self._box.load, self._box.tokens_before(), is_kept, near)

    def _ask(self, question: Question) -> None:
        look = self._policy.look(question, self._state(question))
        ms = 0.0 if look == "none" else self._world.exact_ms
        if look == "near" and question.text not in self._texts:  # else it is found before
            ms += self._world.near_ms
        heapq.heappush(self._begun, (self._box.now_ms + ms, question.number, look))

    def _looked(self, _: float, number: int, look: Look) -> None:
        """It is known now whether its answer is kept; if not, it is computed, once for all who ask it."""
        question = self._questions[number]
        if look != "none":
            exact = question.text in self._texts
            near = (
                not exact and look in ("near", "known") and question.near_passes and question.meaning in self._meanings
            )
            self._policy.looked(question, look, self._since(question), exact=exact, near=near)
            if exact or near:
                self._answer(question, "kept" if exact else "near")
                return
            if question.text in self._computing:
                self._computing[question.text].append(question)
                return
        drafts = self._policy.drafts(question, self._state(question))
        self._computing.setdefault(question.text, [])
        self._outcome.paths["model" if drafts is False else "drafted"] += 1
        self._box.add(Job(question, drafts, self._box.now_ms))

    def _end(self, job: Job) -> None:
        question = job.question
        waited, read, answered = job.placed_ms - job.begin_ms, job.read_ms - job.placed_ms, job.end_ms - job.read_ms
        self._policy.ended(question, waited, read, answered)
        self._outcome.took_ms[question.number] = self._since(question)
        self._texts.add(question.text)
        self._meanings.add(question.meaning)
        for other in self._computing.pop(question.text, ()):
            self._answer(other, "shared")

    def _answer(self, question: Question, path: str) -> None:
        self._outcome.paths[path] += 1
        self._outcome.took_ms[question.number] = self._since(question)

    def _since(self, question: Question) -> float:
        return self._box.now_ms - question.arrival_s * 1e3
