"""A measurement as one plain document: what `--json` prints and every other report draws from."""

from __future__ import annotations

import bisect
import datetime
from typing import Any

from miaotui.load.outcome import Outcome
from miaotui.load.session import Measurement, Run
from miaotui.load.statistics import Slo, summarize

NUM_POINTS = 200
"""So many points of a distribution are kept for the charts."""
NUM_SPANS = 60
"""So many stretches of time a run is divided into."""


def document(measurement: Measurement, slo: Slo, *, is_whole: bool) -> dict[str, Any]:
    """Everything that was found, in JSON's types; times in seconds."""
    options, target, scale = measurement.options, measurement.target, measurement.scale
    return {
        "url": options.root,
        "model": target.model if target else options.model,
        "endpoint": options.endpoint,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "is_whole": is_whole,
        "demand": options.demand.name,
        "seed": options.seed,
        "exact_output": options.exact_output,
        "shared_prefix_tokens": options.shared_prefix_tokens,
        "tokens_per_word": scale.tokens_per_word,
        "overhead_tokens": scale.overhead_tokens,
        "scale_source": scale.source,
        "slo": slo.limits(),
        "runs": [run_document(run, slo) for run in measurement.runs],
    }


def run_document(run: Run, slo: Slo) -> dict[str, Any]:
    """One level's figures and curves."""
    level = run.level
    figures = summarize(run.outcomes, run.elapsed_s, slo)
    return {
        "label": level.label,
        "clients": level.clients,
        "arrivals": None if level.clients else level.arrivals,
        "rate": None if level.clients else level.rate,
        "is_whole": run.is_whole,
        **figures,
        "client_cpu_s": run.cpu_s,
        "client_cpu_share": run.cpu_s / run.elapsed_s if run.elapsed_s > 0 else 0.0,
        "curves": _curves(run),
    }


def _curves(run: Run) -> dict[str, list[list[float]]]:
    good = [outcome for outcome in run.outcomes if outcome.fault is None]
    return {
        "ttft_cdf": distribution([outcome.first_token_s for outcome in good]),
        "itl_cdf": distribution([gap for outcome in good for gap in outcome.gaps_s]),
        "latency": [[outcome.due_s - run.start_s, outcome.whole_s] for outcome in _some(good)],
        "throughput": throughput(good, run.start_s, run.elapsed_s),
    }


def distribution(values: list[float]) -> list[list[float]]:
    """Points [value, share of values that are no larger], rising, at most NUM_POINTS and the ends."""
    ordered, last = sorted(values), len(values)
    step = max(1, -(-last // NUM_POINTS))
    ranks = sorted({*range(1, last + 1, step), last} if ordered else ())
    return [[ordered[rank - 1], rank / last] for rank in ranks]


def _some(outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes in the order they were due, thinned out evenly."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.due_s)
    return ordered[:: max(1, -(-len(ordered) // (10 * NUM_POINTS)))]


def throughput(good: list[Outcome], start_s: float, elapsed_s: float) -> list[list[float]]:
    """Points [seconds, output tokens a second] for equal stretches of a run; a piece of text has its answer's mean."""
    if elapsed_s <= 0 or not good:
        return []
    span_s = elapsed_s / NUM_SPANS
    ends = [span_s * (number + 1) for number in range(NUM_SPANS)]
    tokens = [0.0] * NUM_SPANS
    for outcome in good:
        share = outcome.output_tokens / len(outcome.content_s)
        for at_s in outcome.content_s:
            tokens[min(bisect.bisect_left(ends, at_s - start_s), NUM_SPANS - 1)] += share
    return [[end_s - span_s / 2, count / span_s] for end_s, count in zip(ends, tokens, strict=True)]


def remarks(report: dict[str, Any]) -> list[str]:
    """What a reader must know before trusting the figures; one sentence each."""
    found = []
    if not report["is_whole"]:
        found.append("Interrupted: figures are of what had ended by then; requests under way are not counted.")
    if report["scale_source"] == "guess":
        found.append("The server tells no token counts, so a word was taken for a token when prompts were made.")
    runs = report["runs"]
    if any("pieces" in run["tokens"]["counted_by"] for run in runs):
        found.append("The server sends no usage in its streams: output tokens are pieces of text that arrived.")
    if capped := sum(run["num_capped"] for run in runs):
        found.append(f"{capped} of {sum(run['num_requests'] for run in runs)} requests were shortened to the caps.")
    for run in runs:
        found += _remarks_on(run, report["shared_prefix_tokens"])
    return found


def _remarks_on(run: dict[str, Any], prefix_tokens: int) -> list[str]:
    found, tokens = [], run["tokens"]
    if run["num_ok"] and tokens["output"] < 0.98 * tokens["output_asked"]:
        asked = f"{tokens['output']:.1f} tokens instead of {tokens['output_asked']:.1f}"
        found.append(f"{run['label']}: answers ended after {asked} on average (--exact-output asks servers not to).")
    prompt_asked = (tokens["prompt_asked"] or 0) + prefix_tokens
    if run["num_ok"] and tokens["prompt"] and abs(tokens["prompt"] / prompt_asked - 1) > 0.1:
        had = f"{tokens['prompt']:.1f} tokens on average, {prompt_asked:.1f} were asked for"
        found.append(f"{run['label']}: prompts had {had}.")
    if run["late_s"] and run["late_s"]["p99"] > 0.05:
        found.append(f"{run['label']}: requests were sent up to {run['late_s']['max']:.2f} s late: this tool was busy.")
    if run["num_rejected"]:
        found.append(
            f"{run['label']}: the server refused {run['num_rejected']} requests with 429 (--retry asks again)."
        )
    return found
