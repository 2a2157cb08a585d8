"""A replay's figures as tables, remarks, charts and a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from miaotui.drawing import html
from miaotui.drawing.chart import Chart, picture
from miaotui.drawing.svg import escaped

MOST_REGRET, MOST_LOSS, MOST_ERROR = 0.10, 1.03, 0.20
"""The planner's goals: regret to the oracle, time beside the best fixed path, median error of its predictions."""


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was replayed."""
    first = report["runs"][0]
    return [
        ("trace", f"{report['trace']}, {first['questions']} requests"),
        ("asked again", f"{report['repeated']:.0%} in the same words, {report['reworded']:.0%} in others"),
        ("lengths", "stated by the requests" if first["knows_lengths"] else "not stated by the requests"),
        ("prices", report["prices"]),
        ("seed", str(first["seed"])),
    ]


def table(run: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One load's policies: heads and rows."""
    heads = ["policy", "mean ms", "p50", "p95", "regret", "busy s", "paths"]
    rows = [
        [
            row["name"],
            f"{row['mean_ms']:.0f}",
            f"{row['p50_ms']:.0f}",
            f"{row['p95_ms']:.0f}",
            f"{row['regret']:+.1%}",
            f"{row['busy_s']:.0f}",
            ", ".join(f"{count} {path}" for path, count in row["paths"].items()),
        ]
        for row in run["policies"]
    ]
    return heads, rows


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """Whether the planner's goals were met, load by load, and what came of it for real."""
    for run in report["runs"]:
        yield (
            f"load {run['load']:g}: regret {_beside(run['planner_regret'], MOST_REGRET)}; "
            f"{_ratio(run['planner_to_best_fixed'])} of the best fixed path ({run['best_fixed']}); "
            f"error of predictions, median, {_beside(run['error_p50'], MOST_ERROR)}"
        )
    if real := report.get("real"):
        yield (
            f"for real, {real['model']}: error of {real['num_predicted']} predictions: median "
            f"{_beside(real['error_p50'], MOST_ERROR)}, 90 % within {real['error_p90']:.1%}; median of the later half "
            f"{real['later_error_p50']:.1%}; energy in {real['energy_unit']}: {real['energy']:.1f}"
        )


def _beside(value: float, most: float) -> str:
    return f"{value:.1%} ({'met' if value <= most else 'missed'}: at most {most:.0%})"


def _ratio(value: float) -> str:
    return f"{value:.3f} × ({'met' if value <= MOST_LOSS else 'missed'}: at most {MOST_LOSS}) the time"


def draw(report: Mapping[str, Any]) -> str:
    """All loads as one SVG."""
    names = [row["name"] for row in report["runs"][0]["policies"]]
    charts: list[Chart] = []
    for run in report["runs"]:
        charts += [
            Chart(f"load {run['load']:g}: share of answers within so long", "s", _lines(run, "took")),
            Chart(f"load {run['load']:g}: seconds lost to the oracle", "requests so far", _lines(run, "lost")),
        ]
    if real := report.get("real"):
        pairs = [pair for pair in real["pairs"] if pair[0] > 0]
        most = max(max(pair) for pair in pairs) if pairs else 1.0
        lines: list[tuple[str, Sequence[Sequence[float]]]] = [("", pairs)]
        charts.append(Chart(f"{real['model']}: measured over predicted, s", "predicted, s", lines, joined=False))
        charts.append(Chart("as it would be without error", "predicted, s", [("", [[0.0, 0.0], [most, most]])]))
    return picture(f"planning on {report['trace']}", f"prices: {report['prices']}", names, charts)


def _lines(run: Mapping[str, Any], curve: str) -> list[tuple[str, Sequence[Sequence[float]]]]:
    """The named curve of each policy; those that lost more than ten times what the planner did leave the picture."""
    planner = next(row for row in run["policies"] if row["name"] == "planner")
    most = 10 * max(point[0] if curve == "took" else point[1] for point in planner["curves"][curve])
    at = 0 if curve == "took" else 1
    return [(row["name"], [point for point in row["curves"][curve] if point[at] <= most]) for row in run["policies"]]


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Tables and charts as one HTML file, or the charts as SVG. Raises OSError."""
    if path.suffix == ".svg":
        path.write_text(draw(report), encoding="utf-8")
        return
    from miaotui.load.page import STYLE

    body = [html.pairs(facts(report)), *html.bullets(list(remarks(report)))]
    for run in report["runs"]:
        body += [f"<h2>load {escaped(format(run['load'], 'g'))}</h2>", *html.table(*table(run))]
    body.append(draw(report))
    path.write_text(html.page(f"planning on {report['trace']}", STYLE, body), encoding="utf-8")
