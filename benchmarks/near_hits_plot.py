"""Recall against wrong hits, as one SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 520, 70, 60, 30, 60
MOST_RECALL, MOST_WRONG = 0.2, 0.2
COLORS = {"cosine": "#4363d8", "identical": "#9a6324", "guards": "#3cb44b", "near": "#e6194b"}


def draw(report: dict[str, Any]) -> str:
    """Thresholds of the cosine as a line, everything else as points."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(20, 28, f"Near hits on {report['test']['pairs']} pairs of questions, {report['model']}", size=17),
        *axes(),
        *line([(row["recall"], row["wrong_share"]) for row in report["curve"] if row["right"] + row["wrong"] > 0]),
    ]
    for row in report["policies"]:
        parts += point(row)
    return "\n".join([*parts, "</svg>\n"])


def place(recall: float, wrong: float) -> tuple[float, float]:
    """Pixels of a recall and a share of wrong hits; what is beyond lies at the border."""
    x = LEFT + min(recall, MOST_RECALL) / MOST_RECALL * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - min(wrong, MOST_WRONG) / MOST_WRONG * (HEIGHT - TOP - BOTTOM)


def axes() -> Iterator[str]:
    """A grid with percentages."""
    for step in range(6):
        x, bottom = place(MOST_RECALL * step / 5, 0)
        left, y = place(0, MOST_WRONG * step / 5)
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="#ddd"/>'
        yield f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
        yield text(x, bottom + 18, f"{MOST_RECALL * step / 5:.0%}", anchor="middle")
        yield text(left - 8, y + 4, f"{MOST_WRONG * step / 5:.0%}", anchor="end")
    yield text(WIDTH - RIGHT, HEIGHT - 14, "same-meaning pairs that were served (recall)", anchor="end")
    yield text(20, TOP - 12, "wrong answers among those served")


def line(points: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The cosine's thresholds."""
    inside = [spot for spot in points if spot[0] <= MOST_RECALL]
    shown = " ".join("{:.1f},{:.1f}".format(*place(*spot)) for spot in inside)
    yield f'<polyline points="{shown}" fill="none" stroke="{COLORS["cosine"]}" stroke-width="1.5"/>'
    if inside:
        x, y = place(*max(inside))
        yield text(x - 8, y - 8, "cosine alone", anchor="end", color=COLORS["cosine"])


def point(row: dict[str, Any]) -> Iterator[str]:
    """A policy with its name; those that learn on are left to the table."""
    name = row["name"]
    if name.endswith("learning on") or row["right"] + row["wrong"] == 0:
        return
    color = next(color for start, color in COLORS.items() if name.startswith(start))
    x, y = place(row["recall"], row["wrong_share"])
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    if not name.startswith("cosine"):
        short = name.removeprefix("near hits, ")
        yield text(x + 7, y - 6, short, size=12, color=color)


def text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", color: str = "#222") -> str:
    """One line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(words)}</text>'
    )
