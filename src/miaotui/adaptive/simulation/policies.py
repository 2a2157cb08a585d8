"""Who decides in a simulation: the planner, each fixed path, and an oracle that knows what is true of a question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from miaotui.adaptive.costs import CostModel
from miaotui.adaptive.energy import Consumption
from miaotui.adaptive.exploration import Exploration
from miaotui.adaptive.paths import Facts
from miaotui.adaptive.planner import Planner
from miaotui.adaptive.simulation.questions import Question
from miaotui.core import Plan, Receipt
from miaotui.engine.prospect import Load, Prospect
from miaotui.engine.step_work import StepWork

Look = Literal["none", "exact", "near", "known"]
"""Where it is looked for a kept answer; "known": nowhere, for it is known which one will do."""
TENANT = "simulated"


@dataclass(frozen=True, slots=True)
class State:
    """What can be seen when a question comes: what there is to do, and tokens of prompts that will be read before it.

    is_kept, near_is_kept: the truth, for the oracle: whether its answer is kept, or another that will do and passes.
    """

    load: Load
    tokens_before: int
    is_kept: bool = False
    near_is_kept: bool = False


class Policy(Protocol):
    """Decides on questions in the order of events."""

    name: str

    def look(self, question: Question, state: State) -> Look:
        """Where to look for a kept answer; who looks joins those who compute the same at that moment, too."""

    def looked(self, question: Question, look: Look, ms: float, *, exact: bool, near: bool) -> None:
        """What came of that."""

    def drafts(self, question: Question, state: State) -> bool | None:
        """Whether its tokens are drafted; None: at every moment in which that gains."""

    def ended(self, question: Question, queue_ms: float, read_ms: float, answer_ms: float) -> None:
        """It was computed, and took so long."""

    def stepped(self, work: StepWork, ms: float) -> None:
        """What the machine's steps do and take at this moment."""


@dataclass(slots=True)
class Fixed:
    """The same path for all."""

    name: str
    where: Look
    may_draft: bool

    def look(self, question: Question, state: State) -> Look:
        """See `Policy`."""
        return self.where

    def looked(self, question: Question, look: Look, ms: float, *, exact: bool, near: bool) -> None:
        """Nothing is learned."""

    def drafts(self, question: Question, state: State) -> bool | None:
        """See `Policy`."""
        return self.may_draft

    def ended(self, question: Question, queue_ms: float, read_ms: float, answer_ms: float) -> None:
        """Nothing is learned."""

    def stepped(self, work: StepWork, ms: float) -> None:
        """Nothing is learned."""


class Oracle(Fixed):
    """Takes every kept answer that will do, without a search, and drafts whenever it gains: a bound for all who keep
    the order of arrival. Who looks may be overtaken meanwhile by a shorter request, which can win a little."""

    def __init__(self) -> None:
        super().__init__("oracle", "none", may_draft=True)

    def look(self, question: Question, state: State) -> Look:
        """See `Policy`."""
        return "known" if state.is_kept or state.near_is_kept else "none"

    def drafts(self, question: Question, state: State) -> bool | None:
        """See `Policy`."""
        return None


class Planned:
    """The planner itself, told what an engine would tell it. knows_lengths: whether requests say how long they get.

    most_tokens: that a request may have where it does not. errors: of its predictions, as shares.
    """

    def __init__(self, seed: int, *, knows_lengths: bool = True, most_tokens: int = 1024) -> None:
        self.name = "planner"
        self.errors: list[float] = []
        self.planner = Planner(
            CostModel(consumption=Consumption(clock=lambda: 0.0)), exploration=Exploration(seed=seed)
        )
        self._knows_lengths = knows_lengths
        self._most_tokens = most_tokens
        self._plans: dict[int, Plan] = {}

    def look(self, question: Question, state: State) -> Look:
        """See `Policy`."""
        plan = self.planner.look(Facts(self._prospect(question, state), TENANT, exact=None, near=None))
        return "near" if plan.path == "near" else "exact" if plan.path == "kept" else "none"

    def looked(self, question: Question, look: Look, ms: float, *, exact: bool, near: bool) -> None:
        """See `Policy`."""
        self.planner.looked(TENANT, ms / 1e3, exact=exact, near=near if look == "near" and not exact else None)

    def drafts(self, question: Question, state: State) -> bool | None:
        """See `Policy`."""
        plan = self._plans[question.number] = self.planner.admit(self._prospect(question, state), TENANT)
        return plan.path == "drafted"

    def ended(self, question: Question, queue_ms: float, read_ms: float, answer_ms: float) -> None:
        """See `Policy`."""
        plan, tokens = self._plans.pop(question.number), question.output_tokens
        times = (queue_ms / 1e3, read_ms / 1e3, answer_ms / 1e3)
        receipt = Receipt("model", "", question.prompt_tokens, 0, tokens, *times, seed=0)
        self.errors.append(abs(plan.predicted_ms / max(receipt.whole_s * 1e3, 1e-9) - 1.0))
        self.planner.learn(plan, receipt, TENANT)

    def stepped(self, work: StepWork, ms: float) -> None:
        """See `Policy`."""
        self.planner.stepped(work, ms / 1e3)

    def _prospect(self, question: Question, state: State) -> Prospect:
        return Prospect(
            question.prompt_tokens,
            0,
            question.output_tokens if self._knows_lengths else self._most_tokens,
            state.load,
            state.tokens_before,
            will_fill=self._knows_lengths,
            can_draft=True,
        )


FIXED: tuple[tuple[str, Look, bool], ...] = (
    ("always the model", "none", False),
    ("always drafting", "none", True),
    ("kept answers first", "exact", False),
    ("kept answers first, drafting", "exact", True),
    ("near answers too", "near", False),
    ("near answers too, drafting", "near", True),
)
"""Every path that a server can be set to: where it looks, and whether it drafts."""


def policies(seed: int, *, knows_lengths: bool = True) -> list[Callable[[], Policy]]:
    """What makes each policy anew, the oracle first, the planner last."""
    fixed: list[Callable[[], Policy]] = [lambda row=row: Fixed(*row) for row in FIXED]  # type: ignore[misc]
    return [Oracle, *fixed, lambda: Planned(seed, knows_lengths=knows_lengths)]
