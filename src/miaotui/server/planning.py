"""How the server's requests are planned: what the planner is told of each, and what comes of what it says."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from miaotui.adaptive.paths import Facts, Policy
from miaotui.adaptive.planner import EVERYTHING, Planner
from miaotui.adaptive.typical import Typical
from miaotui.answers.cache import Found, Missed
from miaotui.answers.control import CacheControl
from miaotui.core import Candidate, Plan, Receipt
from miaotui.engine.encoding_line import num_characters
from miaotui.engine.prospect import Admission, Admit, Load, Prospect, fills
from miaotui.engine.step_work import StepWork
from miaotui.engine.watcher import Watcher
from miaotui.errors import DeadlineError

if TYPE_CHECKING:
    from miaotui.server.asking import Ask

EAGER_STEPS, STEPS_BETWEEN = 256, 4
"""The first steps are all learned from, then one of so many: learning takes a moment each time."""
FIRST_CHARACTERS_PER_TOKEN = 4.0
IN_VAIN = "tried in vain"


@dataclass(frozen=True, slots=True)
class Looking:
    """How it is looked for a kept answer. control: what the cache is told. plan: what is expected of it. was_chosen:
    whether the request left anything to choose."""

    plan: Plan
    control: CacheControl
    was_chosen: bool = True


class Learner(Watcher):
    """Tells a planner what steps take, and nobody else anything."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._num_steps = 0

    def worked(self, work: StepWork, seconds: float) -> None:
        """Learn from a step; from every one only at first, for most are like the one before."""
        self._num_steps += 1
        learn = self._num_steps <= EAGER_STEPS or self._num_steps % STEPS_BETWEEN == 0
        self._planner.stepped(work, seconds, learn=learn)


class Planning:
    """Plans the requests of one server.

    most_tokens: of a prompt and its answer together. near_quality: share of near answers that are right; None: none
    are given. policies: what tenants allow, by tenant; others allow everything.
    """

    def __init__(
        self,
        planner: Planner,
        most_tokens: int,
        near_quality: float | None = None,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self.planner = planner
        self._most_tokens = most_tokens
        self._near_quality = near_quality
        self._policies = policies or {}
        self._characters_per_token = Typical(FIRST_CHARACTERS_PER_TOKEN)

    def look(self, ask: Ask, load: Load, *, is_kept: bool) -> Looking:
        """How to look for an answer to a request. is_kept: whether one to such a request is ever kept.

        The same question is looked for in any case: people's own answers come before all others, and are found so.
        What drafts would gain is left to the second plan: it is little beside what a kept answer saves.
        """
        may_look = ask.control.mode == "default" and is_kept
        may_be_near = may_look and self._near_quality is not None and ask.control.near is not False
        facts = Facts(
            self.prospect(ask, load),
            ask.tenant,
            exact=None if may_look else 0.0,
            near=None if may_be_near else 0.0,
            near_quality=self._near_quality or 0.0,
        )
        plan = self.planner.look(facts, self._policy(ask), deadline_ms=_left_ms(ask))
        if not may_look:
            return Looking(plan, ask.control, was_chosen=False)
        if plan.path == "near":
            return Looking(plan, ask.control)
        return Looking(plan, replace(ask.control, near=False))

    def found(self, looking: Looking, tenant: str, found: Found, seconds: float) -> Plan:
        """A kept answer did: the plan that led to it, with what was to be expected of that."""
        is_near = found.path == "near"
        plan = self.planner.found(looking.plan, near=is_near)
        self.planner.looked(tenant, seconds, exact=not is_near, near=True if is_near else None)
        return plan

    def missed(self, looking: Looking, tenant: str, missed: Missed, seconds: float) -> tuple[Candidate, ...]:
        """None did: what was tried in vain, for whoever asks why."""
        if not looking.was_chosen:
            return ()
        self.planner.looked(tenant, seconds, exact=False, near=False if missed.vector else None)
        path = looking.plan.path if looking.plan.path == "near" else "kept"
        return tuple(replace(one, refused=IN_VAIN) for one in looking.plan.candidates if one.path == path)

    def cascade(self, ask: Ask, load: Load, small: SmallForecast, quality: float) -> Plan:
        """Whether a small model is to be asked first, which would take so long; see `Planner.cascade`."""
        prospect, policy, left_ms = self.prospect(ask, load), self._policy(ask), _left_ms(ask)
        plan = self.planner.cascade(small.ms, small.energy, quality, prospect, ask.tenant, policy, deadline_ms=left_ms)
        return replace(plan, deadline_ms=ask.deadline_ms)

    def admit(self, ask: Ask, tried: Sequence[Candidate] = ()) -> Admit:
        """What decides on a request when the engine is to take it."""

        def decide(prospect: Prospect) -> Admission:
            self._learn_length(ask, prospect.num_prompt_tokens)
            if ask.deadline_ms is None:
                plan = self.planner.admit(prospect, ask.tenant, self._policy(ask), tried=tried)
                return Admission(plan, may_draft=plan.path == "drafted")
            passed_ms = (time.monotonic() - ask.begun_s) * 1e3
            try:
                left_ms = ask.deadline_ms - passed_ms
                policy = self._policy(ask)
                plan = self.planner.admit(prospect, ask.tenant, policy, deadline_ms=left_ms, tried=tried)
            except DeadlineError as error:  # as who asked reckons
                raise DeadlineError(error.predicted_ms + passed_ms, ask.deadline_ms, error.fits_tokens) from None
            plan = replace(plan, deadline_ms=ask.deadline_ms)
            return Admission(plan, ask.ends_s, may_draft=plan.path == "drafted")

        return decide

    def prospect(self, ask: Ask, load: Load, most_tokens: int | None = None) -> Prospect:
        """A request before its text has become tokens. most_tokens: of its answer, beside what it says itself."""
        num_prompt_tokens = _num_token_ids(ask) or int(_num_characters(ask) / self._characters_per_token.value) + 1
        most = max(self._most_tokens - num_prompt_tokens, 1)
        if most_tokens is not None:
            most = min(most, most_tokens)
        params = ask.params
        return Prospect(
            num_prompt_tokens,
            0,
            most if params.max_tokens is None else min(params.max_tokens, most),
            load,
            will_fill=fills(params),
            num_sequences=params.n,
        )

    def _learn_length(self, ask: Ask, num_prompt_tokens: int) -> None:
        characters = _num_characters(ask)
        if characters and num_prompt_tokens:
            self._characters_per_token.observe(characters / num_prompt_tokens)

    def _policy(self, ask: Ask) -> Policy:
        return self._policies.get(ask.tenant, EVERYTHING)


@dataclass(frozen=True, slots=True)
class SmallForecast:
    """Milliseconds, and energy, from asking to knowing whether the answer suffices; answer_ms: of the answer alone, as
    its steps add up."""

    ms: float
    energy: float
    answer_ms: float


class SmallCosts:
    """What a small model takes that is asked first, learned from its own steps; nobody else's are told.

    planner: of that model alone; `Learner` tells it of steps.
    """

    def __init__(self) -> None:
        self.planner = Planner(adaptive=False)
        self._ratio = Typical(1.0)  # of what it takes to be sure to what its answer takes

    def forecast(self, prospect: Prospect, tenant: str) -> SmallForecast:
        """What one request will take."""
        forecast, ratio = self.planner.forecast(prospect, tenant), self._ratio.value
        return SmallForecast(forecast.ms * ratio, forecast.energy * ratio, forecast.ms)

    def observe(self, forecast: SmallForecast, seconds: float, receipt: Receipt, tenant: str, most_tokens: int) -> None:
        """What was forecast so took so long, for an answer that might have so many tokens."""
        self.planner.answered(tenant, most_tokens, receipt.output_tokens)
        if forecast.answer_ms > 0:
            self._ratio.observe(seconds * 1e3 / forecast.answer_ms)


def _num_characters(ask: Ask) -> int:
    return num_characters((ask.conversation, ask.tools, ask.template_options))


def _num_token_ids(ask: Ask) -> int:
    """Of a prompt that came as such; 0 for texts."""
    first = ask.conversation[0] if ask.conversation else None
    return len(ask.conversation) if isinstance(first, int) else 0


def _left_ms(ask: Ask) -> float | None:
    """Of the time that a request gave; None where it gave none."""
    return None if ask.ends_s is None else (ask.ends_s - time.monotonic()) * 1e3
