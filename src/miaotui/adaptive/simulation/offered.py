"""How much of a machine a trace asks for, and the same trace faster or slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from miaotui.adaptive.simulation.questions import Arrival
from miaotui.adaptive.simulation.world import Rates, World

TOGETHER = 8
"""Answers that share steps where it is reckoned what a machine can do."""


def work_s(arrivals: Sequence[Arrival], world: World) -> float:
    """Seconds that the machine is busy with all of it where nothing is kept or drafted, several answers at a time."""
    rates = Rates(world, fmean(one.prompt_tokens + one.output_tokens / 2 for one in arrivals))
    read_ms, num_tokens = rates.step(0, reads=True)
    answer_ms, _ = rates.step(TOGETHER, reads=False)
    ms = sum(one.prompt_tokens * read_ms / num_tokens + one.output_tokens * answer_ms / TOGETHER for one in arrivals)
    return ms / 1e3


def at_load(arrivals: Sequence[Arrival], world: World, load: float) -> list[Arrival]:
    """The same arrivals at a rate at which such a machine would be busy for that share of the time."""
    span_s = arrivals[-1].arrival_s if arrivals else 0.0
    if span_s <= 0:
        return list(arrivals)
    scale = work_s(arrivals, world) / load / span_s
    return [replace(one, arrival_s=one.arrival_s * scale) for one in arrivals]
