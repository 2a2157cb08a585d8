"""A measurement drawn as one SVG, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from miaotui.drawing.chart import Chart, picture


def draw(report: dict[str, Any]) -> str:
    """The whole picture. Everything that came from the server or the user is escaped."""
    runs = report["runs"]
    charts = [
        Chart("time to the first token: share of requests", "s", _lines(runs, "ttft_cdf")),
        Chart("time between pieces of text: share of gaps", "s", _lines(runs, "itl_cdf")),
        Chart("whole answer, s", "s since the start, when the request was due", _lines(runs, "latency"), joined=False),
        Chart("output tokens a second", "s since the start", _lines(runs, "throughput")),
    ]
    if sweep := _sweep(runs):
        charts += sweep
    facts = f"{report['demand']}, {report['endpoint']}, {report['date']}"
    return picture(f"{report['model']} at {report['url']}", facts, [run["label"] for run in runs], charts)


def _lines(runs: list[dict[str, Any]], curve: str) -> list[tuple[str, Sequence[Sequence[float]]]]:
    return [(run["label"], run["curves"][curve]) for run in runs]


def _sweep(runs: list[dict[str, Any]]) -> list[Chart]:
    """Rates and latencies over the load, where several loads were measured."""
    if len(runs) < 2:
        return []
    by_clients = all(run["clients"] for run in runs)
    load = "clients" if by_clients else "rate"
    name = "clients" if by_clients else "requests a second (or times the trace's rate)"
    ordered = sorted((run for run in runs if run["num_ok"] and run[load]), key=lambda run: run[load])
    rates = [[run[load], run["output_tokens_per_s"]] for run in ordered]
    times = [(column, [[run[load], run["ttft_s"][column]] for run in ordered]) for column in ("p50", "p99")]
    return [
        Chart(f"output tokens a second over {load}", name, [("", rates)]),
        Chart(f"time to the first token over {load}, s", name, times, named=True),
    ]
