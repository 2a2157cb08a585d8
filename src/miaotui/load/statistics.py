"""Figures of one run, from what came of its requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miaotui.errors import ConfigError, brief
from miaotui.load.outcome import Outcome

PERCENTILES = (50, 90, 95, 99)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in rising order, by linear interpolation, as numpy's default."""
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Count, mean, percentiles and maximum of those values that there are; None if there are none."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    figures = {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}
    return {"count": len(ordered), "mean": math.fsum(ordered) / len(ordered), **figures, "max": ordered[-1]}


@dataclass(frozen=True, slots=True)
class Slo:
    """What an answer must keep to count as good, in seconds; None: it does not matter.

    ttft: first token. itl: every gap between pieces of text. tpot: mean time a token behind the first. e2e: the end.
    """

    ttft: float | None = None
    itl: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read "ttft=1.0,itl=0.1,e2e=30". Raises ConfigError."""
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            try:
                seconds = float(value)
            except ValueError:
                seconds = math.nan
            if name.strip() not in cls.__slots__ or not 0 < seconds < math.inf:
                raise ConfigError(
                    f"--slo is seconds for ttft, itl, tpot, e2e, as in ttft=1,tpot=0.1; not {brief(part)}"
                )
            limits[name.strip()] = seconds
        return cls(**limits)

    def is_met(self, outcome: Outcome) -> bool:
        """Whether an answer is without fault and within every limit."""
        if outcome.fault is not None:
            return False
        pairs = (
            (self.ttft, outcome.first_token_s),
            (self.itl, max(outcome.gaps_s, default=0.0)),
            (self.tpot, outcome.token_gap_s or 0.0),
            (self.e2e, outcome.whole_s),
        )
        return all(limit is None or value <= limit for limit, value in pairs)

    def limits(self) -> dict[str, float]:
        """Those limits that there are, by name, in seconds."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def summarize(outcomes: Sequence[Outcome], elapsed_s: float, slo: Slo) -> dict[str, Any]:
    """Figures of one run that took elapsed_s from its start to the end of its last answer. Times are in seconds.

    Latencies are of answers without fault; rates are per second of elapsed_s.
    """
    good = [outcome for outcome in outcomes if outcome.fault is None]
    output_tokens = sum(outcome.output_tokens for outcome in good)
    per_s = 1 / elapsed_s if elapsed_s > 0 else 0.0
    return {
        "num_requests": len(outcomes),
        "num_ok": len(good),
        "num_retries": sum(outcome.num_retries for outcome in outcomes),
        "num_rejected": sum(outcome.fault is not None and outcome.fault.kind == "http_429" for outcome in outcomes),
        "num_capped": sum(outcome.shape.capped for outcome in outcomes),
        "errors": errors_of(outcomes),
        "elapsed_s": elapsed_s,
        "output_tokens_per_s": output_tokens * per_s,
        "prompt_tokens_per_s": sum(outcome.prompt_tokens or 0 for outcome in good) * per_s,
        "requests_per_s": len(good) * per_s,
        "goodput_per_s": sum(map(slo.is_met, outcomes)) * per_s if slo.limits() else None,
        "ttft_s": spread(outcome.first_token_s for outcome in good),
        "itl_s": spread(gap for outcome in good for gap in outcome.gaps_s),
        "tpot_s": spread(outcome.token_gap_s for outcome in good),
        "e2e_s": spread(outcome.whole_s for outcome in good),
        "queue_s": spread(outcome.queue_s for outcome in good),
        "late_s": spread(outcome.sent_s - outcome.due_s for outcome in outcomes),
        "tokens": _tokens(good),
    }


def errors_of(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Any]]:
    """By kind of fault: how many, and what the first of them said; the most frequent first."""
    faults = [outcome.fault for outcome in outcomes if outcome.fault is not None]
    counts = Counter(fault.kind for fault in faults)
    first = {fault.kind: fault.detail for fault in reversed(faults)}
    return {kind: {"count": count, "example": first[kind]} for kind, count in counts.most_common()}


def _tokens(good: Sequence[Outcome]) -> Mapping[str, Any]:
    """Asked for and had, a request; and who counted the latter."""
    counted = Counter(outcome.counted_by for outcome in good)
    return {
        "prompt_asked": _mean(outcome.shape.prompt_tokens for outcome in good),
        "prompt": _mean(outcome.prompt_tokens for outcome in good),
        "cached": _mean(outcome.cached_tokens for outcome in good),
        "output_asked": _mean(outcome.shape.output_tokens for outcome in good),
        "output": _mean(outcome.output_tokens for outcome in good),
        "output_total": sum(outcome.output_tokens for outcome in good),
        "counted_by": dict(counted),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    figures = spread(values)
    return figures["mean"] if figures else None
