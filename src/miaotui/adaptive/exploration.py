"""Trying paths that do not seem cheapest, because the world changes; within a budget."""

from __future__ import annotations

import random

SHARE = 0.01
"""Of the time that requests take, what may be spent on trying others than the cheapest."""
CHANCE = 0.05
"""Share of requests that try, where the budget allows."""


class Exploration:
    """Epsilon-greedy (Sutton and Barto, Reinforcement Learning, 2nd edition, section 2.2) that has to earn its trials.

    Whatever is tried, all trials together cost at most `share` of all requests' time and what the last one cost.
    """

    def __init__(self, share: float = SHARE, chance: float = CHANCE, seed: int | None = None) -> None:
        self._share, self._chance = share, chance
        self._dice = random.Random(seed)  # noqa: S311 (nobody gains by guessing it)
        self.spent_ms = 0.0
        self.total_ms = 0.0

    @property
    def allowance_ms(self) -> float:
        """What a trial may cost more than the cheapest path, now."""
        return self._share * self.total_ms - self.spent_ms

    def earn(self, ms: float) -> None:
        """A request took so long."""
        self.total_ms += ms

    def spend(self, ms: float) -> None:
        """A trial took so much longer than the cheapest path would have."""
        self.spent_ms += max(ms, 0.0)

    def choose(self, extra_ms: list[float]) -> int | None:
        """Which of these paths to try, by what each costs more than the cheapest; None: none of them, this time."""
        if self._share <= 0 or self._dice.random() >= self._chance:
            return None
        within = [number for number, extra in enumerate(extra_ms) if extra <= self.allowance_ms]
        return self._dice.choice(within) if within else None
