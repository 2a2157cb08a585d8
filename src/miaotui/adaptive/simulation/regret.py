"""What policies lost to the oracle, as one document."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from miaotui.adaptive.simulation.policies import Planned, Policy, policies
from miaotui.adaptive.simulation.questions import Question
from miaotui.adaptive.simulation.replay import Outcome, Replay
from miaotui.adaptive.simulation.world import World

CURVE_POINTS = 200


def compare(
    questions: Sequence[Question],
    world: World,
    seed: int,
    *,
    knows_lengths: bool = True,
    makers: Sequence[Callable[[], Policy]] | None = None,
) -> dict[str, Any]:
    """Replay all policies, the oracle first; figures of each, times in milliseconds.

    regret: by how much the mean answer took longer than the oracle's, as a share of that. Over all requests the
    differences add up to the difference of the sums, whichever of them are positive.
    """
    rows: list[dict[str, Any]] = []
    oracle: Outcome | None = None
    for make in makers or policies(seed, knows_lengths=knows_lengths):
        policy = make()
        outcome = Replay(questions, world, policy, seed).run()
        oracle = oracle or outcome
        rows.append(_row(outcome, oracle) | _errors(policy))
    return {"questions": len(questions), "seed": seed, "knows_lengths": knows_lengths, "policies": rows} | _verdict(
        rows
    )


def _row(outcome: Outcome, oracle: Outcome) -> dict[str, Any]:
    ordered = sorted(outcome.took_ms)
    mean, best = fmean(ordered), fmean(oracle.took_ms)
    lost = [took - least for took, least in zip(outcome.took_ms, oracle.took_ms, strict=True)]
    return {
        "name": outcome.name,
        "mean_ms": mean,
        "p50_ms": quantile(ordered, 0.5),
        "p95_ms": quantile(ordered, 0.95),
        "regret": mean / best - 1.0,
        "regret_ms": math.fsum(lost),
        "busy_s": outcome.busy_ms / 1e3,
        "paths": dict(sorted(outcome.paths.items())),
        "curves": {"took": _cdf(ordered), "lost": _added(lost)},
    }


def _errors(policy: Policy) -> dict[str, Any]:
    if not isinstance(policy, Planned) or not policy.errors:
        return {}
    ordered = sorted(policy.errors)
    exploration = policy.planner.exploration
    return {
        "error_p50": quantile(ordered, 0.5),
        "error_p90": quantile(ordered, 0.9),
        "explored_share": exploration.spent_ms / max(exploration.total_ms, 1e-9),
    }


def _verdict(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The planner beside the oracle and the best of the fixed paths."""
    fixed = [row for row in rows if row["name"] not in ("oracle", "planner")]
    planner = next((row for row in rows if row["name"] == "planner"), None)
    if planner is None or not fixed:
        return {}
    best = min(fixed, key=lambda row: float(row["mean_ms"]))
    return {
        "best_fixed": best["name"],
        "planner_regret": planner["regret"],
        "planner_to_best_fixed": planner["mean_ms"] / best["mean_ms"],
        "error_p50": planner.get("error_p50"),
    }


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in rising order, by linear interpolation."""
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _cdf(ordered: Sequence[float]) -> list[list[float]]:
    """Share of requests by seconds."""
    shares = [number / CURVE_POINTS for number in range(CURVE_POINTS + 1)]
    return [[quantile(ordered, share) / 1e3, share] for share in shares]


def _added(lost: Sequence[float]) -> list[list[float]]:
    """Seconds lost to the oracle by requests so far."""
    every = max(len(lost) // CURVE_POINTS, 1)
    total, points = 0.0, [[0.0, 0.0]]
    for number, ms in enumerate(lost, 1):
        total += ms / 1e3
        if number % every == 0 or number == len(lost):
            points.append([float(number), total])
    return points
