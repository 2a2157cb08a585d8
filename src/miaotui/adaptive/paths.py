"""The ways a request can be answered, each with what it costs, how likely it suffices, and how good its answers are.

A further way, such as a small model asked before a large one, is one more `Path` in the list that a planner chooses
from; nothing else has to know of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.adaptive.chances import Chances
from miaotui.adaptive.costs import CostModel, Forecast
from miaotui.engine.prospect import Prospect


@dataclass(frozen=True, slots=True)
class Path:
    """ms: from asking to the last token, where it suffices, which has that chance; wasted_ms: spent where it does not.

    quality: share of its answers that are as good as the model's. forecast: of what the model computes on it.
    gain: how many times as fast as one a step its tokens are taken to come. tries: what is better known once it was
    taken; None: itself.
    """

    name: str
    ms: float
    chance: float = 1.0
    wasted_ms: float = 0.0
    quality: float = 1.0
    energy: float = 0.0
    forecast: Forecast | None = None
    gain: float = 1.0
    tries: frozenset[str] | None = None

    @property
    def is_sure(self) -> bool:
        """Whether nothing has to come behind it."""
        return self.chance >= 1.0

    def tells_more(self, best: Path) -> bool:
        """Whether taking this one instead tells something that taking the best, or what follows it, does not."""
        if self.is_sure and not best.is_sure:
            return False
        own, its = ({path.name} if path.tries is None else path.tries for path in (self, best))
        return not own <= its


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tenant, a request or the server allows. allowed: names of paths; None: all. floor: least quality."""

    allowed: frozenset[str] | None = None
    floor: float = 0.0

    def objection(self, path: Path) -> str:
        """Why a path may not be taken; empty where it may."""
        if self.allowed is not None and path.name not in self.allowed:
            return "not allowed"
        if path.quality < self.floor:
            return f"below the quality floor of {self.floor:g}"
        return ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a question. exact, near: the chance that its answer is kept, or one to a question of the same
    meaning; 0: no, or not looked for; 1: yes; None: what the tenant's others had. near_quality: share of near answers
    that are right."""

    prospect: Prospect
    tenant: str = ""
    exact: float | None = 0.0
    near: float | None = 0.0
    near_quality: float = 1.0


def paths_of(facts: Facts, costs: CostModel, chances: Chances) -> list[Path]:
    """The paths there are, in the order in which they are tried where nobody chooses."""
    return kept_paths(facts, costs, chances) + model_paths(facts, costs)


def kept_paths(facts: Facts, costs: CostModel, chances: Chances) -> list[Path]:
    """Looking among kept answers: by the question's meaning as well, and for the same question only."""
    exact = chances.of("exact", facts.tenant) if facts.exact is None else facts.exact
    near = chances.of("near", facts.tenant) if facts.near is None else facts.near
    exact_ms, near_ms = costs.look_ms("exact"), costs.look_ms("near")
    paths: list[Path] = []
    if near > 0:
        both = exact + (1 - exact) * near
        by_meaning = (1 - exact) * near / both
        ms = exact_ms + by_meaning * near_ms
        quality = 1.0 - by_meaning * (1.0 - facts.near_quality)
        tries = frozenset({"exact", "near"})
        paths.append(Path("near", ms, both, exact_ms + near_ms, min(quality, facts.near_quality), tries=tries))
    if exact > 0:
        paths.append(Path("kept", exact_ms, exact, exact_ms, tries=frozenset({"exact"})))
    return paths


def model_paths(facts: Facts, costs: CostModel) -> list[Path]:
    """Asking the model: with drafts where there are any, and without."""
    prospect, paths = facts.prospect, list[Path]()
    plain = costs.forecast(prospect, facts.tenant)
    if prospect.can_draft:
        gain = costs.draft_gain(prospect.load)
        paths.append(_computed("drafted", plain.sped_up(gain), gain))
    paths.append(_computed("prefix" if prospect.num_cached_tokens else "model", plain, 1.0))
    return paths


def _computed(name: str, forecast: Forecast, gain: float) -> Path:
    tries = frozenset({"drafts"} if name == "drafted" else ())  # what plain steps cost is seen in any case
    return Path(name, forecast.ms, energy=forecast.energy, forecast=forecast, gain=gain, tries=tries)
