"""A measurement for people: tables of text, and how their numbers are written."""

from __future__ import annotations

from typing import Any

from miaotui.load.report import remarks

LATENCIES = {
    "ttft_s": "first token (TTFT)",
    "itl_s": "between pieces (ITL)",
    "tpot_s": "mean a token (TPOT)",
    "e2e_s": "whole answer (E2E)",
    "queue_s": "server's queue",
    "late_s": "sent late by",
}
COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def seconds(value: float | None) -> str:
    """A time with three significant digits, in ms below a second."""
    if value is None:
        return "–"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def rate(value: float | None) -> str:
    """A rate or count with sensible digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def overview(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row per run: rates, and the latencies that matter most."""
    heads = ["load", "ok", "failed", "tok/s", "req/s", "goodput/s", "TTFT p50", "p99", "TPOT p50", "p99", "E2E p50"]
    heads += ["p99", "tool's CPU"]
    rows = []
    for run in report["runs"]:
        times = [
            seconds(run[name][column] if run[name] else None)
            for name in ("ttft_s", "tpot_s", "e2e_s")
            for column in ("p50", "p99")
        ]
        failed = str(run["num_requests"] - run["num_ok"])
        rates = [rate(run[name]) for name in ("output_tokens_per_s", "requests_per_s", "goodput_per_s")]
        cpu = f"{run['client_cpu_s']:.1f} s = {run['client_cpu_share']:.0%}"
        rows.append([run["label"], str(run["num_ok"]), failed, *rates, *times, cpu])
    if not report["slo"]:
        heads, rows = heads[:5] + heads[6:], [row[:5] + row[6:] for row in rows]
    return heads, rows


def latencies(run: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row per kind of latency that was measured."""
    rows = [[name, *(seconds(run[key][column]) for column in COLUMNS)] for key, name in LATENCIES.items() if run[key]]
    return ["latency", *COLUMNS], rows


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What was measured, as names and values."""
    runs = report["runs"]
    scale = f"{report['tokens_per_word']:.3g} a word + {report['overhead_tokens']:.3g} (from {report['scale_source']})"
    pairs = [
        ("model", str(report["model"])),
        ("server", f"{report['url']}, {report['endpoint']}"),
        ("load", report["demand"]),
        ("seed", str(report["seed"])),
        ("prompt tokens", f"{_mean_of(runs, 'prompt')} a request, {_mean_of(runs, 'cached')} of them from a cache"),
        ("output tokens", f"{_mean_of(runs, 'output')} a request"),
        ("words to tokens", scale),
    ]
    if report["slo"]:
        limits = ", ".join(f"{name} ≤ {seconds(value)}" for name, value in report["slo"].items())
        pairs.append(("goodput", f"answers with {limits}"))
    return pairs


def _mean_of(runs: list[dict[str, Any]], name: str) -> str:
    pairs = [(run["tokens"][name], run["num_ok"]) for run in runs if run["tokens"][name] is not None]
    total = sum(count for _, count in pairs)
    return rate(sum(value * count for value, count in pairs) / total) if total else "unknown"


def problems(report: dict[str, Any]) -> list[str]:
    """A line per kind of error of each run, with an example."""
    return [
        f"{run['label']}: {error['count']} × {kind}: {error['example'] or 'nothing was said'}"
        for run in report["runs"]
        for kind, error in run["errors"].items()
    ]


def notes(report: dict[str, Any]) -> list[str]:
    """Remarks and problems, for below the tables."""
    return remarks(report) + problems(report)
