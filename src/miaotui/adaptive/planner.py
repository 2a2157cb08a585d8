"""The cheapest path that suffices: E[c] = p·c_opt + (1 − p)·mean(c_i); choose, measure, learn p."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Row
from dataclasses import replace
from math import fsum

from miaotui.adaptive.chances import Chances
from miaotui.adaptive.costs import CostModel, Forecast
from miaotui.adaptive.exploration import Exploration
from miaotui.adaptive.paths import Facts, Path, Policy, kept_paths, model_paths
from miaotui.core import Candidate, Plan, Receipt
from miaotui.engine.prospect import Load, Prospect
from miaotui.engine.step_work import StepWork
from miaotui.errors import DeadlineError, InvalidRequestError

EVERYTHING = Policy()
TOO_LATE = "would not end in time"
TRIED_AFTER = 16
"""Where so many requests are refused on end, the last of them is let try."""
NOTHING = Prospect(0, 0, 0, Load())
NO_FORECAST = Forecast(0.0, 0.0, 0.0, 0.0)


def expected(p: float, c_opt: float, costs: Row[float]) -> float:
    """E[c] = p·c_opt + (1 − p)·mean(c_i): what a path costs that suffices with probability p.

    Where it does not, one of the others has to follow, at costs c_i; which of them will be best is known then only, so
    that their mean counts. A path that always suffices costs c_opt.
    """
    return c_opt if p >= 1 or not costs else p * c_opt + (1 - p) * fsum(costs) / len(costs)


class Planner:
    """Chooses the path of each request, and learns from what it cost.

    adaptive: whether the cheapest path is chosen; else the first one that policy and deadline allow, as they are tried
    where nobody plans, and only what it costs is predicted. May be called from several threads.
    """

    def __init__(
        self, costs: CostModel | None = None, *, adaptive: bool = True, exploration: Exploration | None = None
    ) -> None:
        self.costs = CostModel() if costs is None else costs
        self.chances = Chances()
        self.exploration = Exploration() if exploration is None else exploration
        self._adaptive = adaptive
        self._num_refused = 0  # since a request was answered
        self._lock = threading.Lock()

    def look(self, facts: Facts, policy: Policy = EVERYTHING, *, deadline_ms: float | None = None) -> Plan:
        """Where to look for an answer, before a question is encoded: a plan for "near", "kept", or without any look.

        Nothing is refused for its deadline here: only when it has been looked for is it known what is left to do.
        """
        with self._lock:
            gambles = kept_paths(facts, self.costs, self.chances)
            sure = model_paths(facts, self.costs)
            try:
                return self._chosen([*gambles, *sure], policy, deadline_ms)
            except DeadlineError:  # a kept answer might still be in time, and it is quickly seen whether there is one
                return self._chosen(gambles or sure, policy, None, explores=False)

    def admit(
        self,
        prospect: Prospect,
        tenant: str = "",
        policy: Policy = EVERYTHING,
        *,
        deadline_ms: float | None = None,
        tried: Row[Candidate] = (),
    ) -> Plan:
        """How the model is to be asked. tried: what has been tried in vain.

        Raises DeadlineError where no path that the policy allows is likely to end in time; but of many in a row one is
        let try, with its deadline: the machine may have become faster.
        """
        with self._lock:
            paths = model_paths(Facts(prospect, tenant), self.costs)
            try:
                return self._chosen(paths, policy, deadline_ms, prospect, tried)
            except DeadlineError:
                self._num_refused += 1
                if self._num_refused % TRIED_AFTER:
                    raise
            plan = self._chosen(paths, policy, None, prospect, tried, explores=False)
            return replace(plan, deadline_ms=deadline_ms, why="let try, for nothing is learned from refusals")

    def cascade(
        self,
        small_ms: float,
        energy: float,
        quality: float,
        prospect: Prospect,
        tenant: str = "",
        policy: Policy = EVERYTHING,
        *,
        deadline_ms: float | None = None,
    ) -> Plan:
        """Whether a small model is to be asked first: a plan for "cascade", or for the model at once.

        small_ms, energy: what its answer will take. quality: share of the answers it is let give that are as good as
        the model's. prospect: of the model. Nothing is refused for its deadline here, as in `look`.
        """
        with self._lock:
            chance = self.chances.of("cascade", tenant)
            tries = frozenset({"cascade"})
            first = Path("cascade", small_ms, chance, small_ms, quality, energy, tries=tries)
            sure = model_paths(Facts(prospect, tenant), self.costs)
            try:
                return self._chosen([first, *sure], policy, deadline_ms, prospect)
            except DeadlineError:
                return self._chosen(sure, policy, None, prospect, explores=False)

    def cascaded(self, tenant: str, *, sufficed: bool) -> None:
        """A small model was asked first."""
        with self._lock:
            self.chances.observe("cascade", tenant, sufficed=sufficed)

    def found(self, plan: Plan, *, near: bool) -> Plan:
        """The same plan where a kept answer did: what that was to cost is known better now."""
        with self._lock:
            ms = self.costs.look_ms("exact") + (self.costs.look_ms("near") if near else 0.0)
        name = "near" if near else "kept"
        return replace(plan, path=name, predicted_ms=ms, queue_ms=0.0, read_ms=0.0, token_ms=0.0)  # nothing is computed

    def choose(self, paths: Row[Path], policy: Policy = EVERYTHING, *, deadline_ms: float | None = None) -> Plan:
        """The cheapest of any paths. Raises DeadlineError where none ends in time, and InvalidRequestError where the
        policy allows none at all."""
        with self._lock:
            return self._chosen(paths, policy, deadline_ms)

    def _chosen(
        self,
        paths: Row[Path],
        policy: Policy,
        deadline_ms: float | None,
        prospect: Prospect = NOTHING,
        tried: Row[Candidate] = (),
        *,
        explores: bool = True,
    ) -> Plan:
        objections = [policy.objection(path) for path in paths]
        sure_ms = [path.ms for path, objection in zip(paths, objections, strict=True) if path.is_sure and not objection]
        costs = [expected(path.chance, path.ms, [path.wasted_ms + ms for ms in sure_ms]) for path in paths]
        if all(objections):
            raise InvalidRequestError("no path to an answer is allowed: allow the model, or lower the quality floor.")
        if deadline_ms is not None and self.costs.is_known:
            objections = self._in_time(paths, objections, sure_ms, deadline_ms)
        open_to = [number for number, objection in enumerate(objections) if not objection]
        number = min(open_to, key=costs.__getitem__) if self._adaptive else open_to[0]
        why = self._why(len(open_to))
        other = self._tried(number, open_to, paths, costs) if explores and deadline_ms is None else None
        if other is not None:
            number, why = other, "tried, to learn what it costs"
        path, forecast = paths[number], paths[number].forecast or NO_FORECAST
        return Plan(
            path.name,
            costs[number],
            why,
            (*tried, *map(_candidate, paths, costs, objections)),
            other is not None,
            deadline_ms,
            forecast.queue_ms,
            forecast.read_ms,
            forecast.token_ms,
            forecast.output_tokens,
            max_tokens=0 if prospect.will_fill else prospect.max_tokens,
            num_beside=prospect.load.num_unfinished,
            draft_gain=path.gain,
            corrections=forecast.corrections,
            predicted_energy=path.energy,
            energy_unit=self.costs.energy_unit,
        )

    def _tried(self, best: int, open_to: Row[int], paths: Row[Path], costs: Row[float]) -> int | None:
        """Which path to try instead of the cheapest, this time; None: none."""
        if not self._adaptive:
            return None
        others = [other for other in open_to if paths[other].tells_more(paths[best])]
        chosen = self.exploration.choose([costs[other] - costs[best] for other in others])
        if chosen is None:
            return None
        self.exploration.spend(costs[others[chosen]] - costs[best])
        return others[chosen]

    def _in_time(self, paths: Row[Path], objections: Row[str], sure_ms: Row[float], deadline_ms: float) -> list[str]:
        """Objections, those against paths that would end too late included. Raises DeadlineError where that are all."""
        longest_ms = deadline_ms / (1 + self.costs.margin)
        late = [
            objection or (TOO_LATE if _latest_ms(path, sure_ms) > longest_ms else "")
            for path, objection in zip(paths, objections, strict=True)
        ]
        if all(late):
            allowed = [path for path, objection in zip(paths, objections, strict=True) if not objection]
            raise _too_late(allowed, deadline_ms, longest_ms)
        return late

    def _why(self, num_open: int) -> str:
        if num_open == 1:
            return "the only path that was open"
        return f"the cheapest of {num_open}" if self._adaptive else "the first path that was open; nobody chooses"

    def looked(self, tenant: str, seconds: float, *, exact: bool, near: bool | None = None) -> None:
        """It was looked for a kept answer for so long: whether the same question had one, and, unless that is None,
        whether one of the same meaning had."""
        with self._lock:
            self.chances.observe("exact", tenant, sufficed=exact)
            if near is None:
                self.costs.observe_look("exact", seconds)
                return
            self.chances.observe("near", tenant, sufficed=near)
            self.costs.observe_look("near", max(seconds - self.costs.look_ms("exact") / 1e3, 0.0))

    def stepped(self, work: StepWork, seconds: float, *, learn: bool = True) -> None:
        """The engine has made a step. learn: whether it is worth the while."""
        with self._lock:
            self.costs.observe_step(work, seconds, learn=learn)

    def learn(self, plan: Plan, receipt: Receipt, tenant: str) -> None:
        """A request that was planned has ended by itself; what it cost is in its receipt."""
        actual_ms = receipt.whole_s * 1e3
        with self._lock:
            self._num_refused = 0
            self.exploration.earn(actual_ms)
            if plan.explored:
                self.exploration.spend(actual_ms - plan.predicted_ms)
            if plan.token_ms > 0:
                self.costs.observe_request(plan, receipt)
                if plan.max_tokens:
                    self.costs.lengths.observe(tenant, plan.max_tokens, receipt.output_tokens)

    def forecast(self, prospect: Prospect, tenant: str = "") -> Forecast:
        """What the model will take for it; nothing is chosen."""
        with self._lock:
            return self.costs.forecast(prospect, tenant)

    def answered(self, tenant: str, max_tokens: int, output_tokens: int) -> None:
        """An answer that nobody planned had so many tokens, where it might have had so many more."""
        with self._lock:
            self.costs.lengths.observe(tenant, max_tokens, output_tokens)

    def cut(self, plan: Plan, receipt: Receipt, tenant: str) -> None:
        """Its deadline ended a request: it would have said more, which counts where it said more than expected."""
        with self._lock:
            if plan.max_tokens and receipt.output_tokens > plan.output_tokens:
                self.costs.lengths.observe(tenant, plan.max_tokens, receipt.output_tokens)


def regret_ms(plan: Plan, actual_ms: float) -> float:
    """By how much a request took longer than the cheapest of the other paths that were open was expected to; an
    estimate from above, for what chance made longer counts where another path would have cost about as much."""
    others = [one.expected_ms for one in plan.candidates if not one.refused and one.path != plan.path]
    return max(actual_ms - min(others, default=actual_ms), 0.0)


def _too_late(allowed: Row[Path], deadline_ms: float, longest_ms: float) -> DeadlineError:
    """What to say of a request that cannot end in time."""
    best_ms = min(path.ms for path in allowed)
    fits = max((path.forecast.tokens_within(longest_ms) for path in allowed if path.forecast), default=0)
    return DeadlineError(best_ms, deadline_ms, fits)


def _latest_ms(path: Path, sure_ms: Row[float]) -> float:
    """Until when an answer is there, whether the path suffices or not."""
    if path.is_sure:
        return path.ms
    return max(path.ms, path.wasted_ms + min(sure_ms)) if sure_ms else path.ms


def _candidate(path: Path, cost_ms: float, objection: str) -> Candidate:
    return Candidate(path.name, cost_ms, path.chance, path.quality, path.energy, objection)
