"""Accuracy against cost of a cascade's gates, beside routing by chance and a gate that knows, as one SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from miaotui.drawing.svg import COLORS, text

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 860, 520, 80, 60, 190, 60
SHOWN = {"chance": "either model by chance", "oracle": "a gate that knows"}

Point = tuple[float, float]


class Plane:
    """Where a cost and an accuracy lie on the picture."""

    def __init__(self, points: Sequence[Point]) -> None:
        costs, accuracies = [x for x, _ in points], [y for _, y in points]
        self.left, self.right = 0.0, max(*costs, 1.0) * 1.05
        spread = max(max(accuracies) - min(accuracies), 0.02)
        self.low, self.high = min(accuracies) - 0.1 * spread, max(accuracies) + 0.1 * spread

    def at(self, point: Point) -> Point:
        x = LEFT + (point[0] - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (point[1] - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
        return x, y


def draw(report: dict[str, Any], title: str) -> str:
    """Curves on the test rows, a circle with its interval for each calibrated gate, and the floor."""
    curves: dict[str, list[Point]] = report["curves"]
    gates = [one for one in report["gates"] if one["calibration"]["threshold"] is not None]
    highs = [(1 - one["test"]["cost_saved"][0], one["test"]["cascade"][at]) for one in gates for at in (1, 2)]
    plane = Plane([*(point for points in curves.values() for point in points), *highs])
    large = curves["chance"][0][1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(20, 28, title, size=17),
        *axes(plane),
        *(
            part
            for floor in report["floors"]
            for part in level(plane, floor * large, f"{floor:.0%} of the large one's")
        ),
    ]
    for number, (name, points) in enumerate(sorted(curves.items())):
        parts += line(plane, points, COLORS[number], SHOWN.get(name, name), number)
        parts += [
            circle for one in gates if one["calibration"]["signal"] == name for circle in gate(plane, one, number)
        ]
    return "\n".join([*parts, "</svg>\n"])


def axes(plane: Plane) -> Iterator[str]:
    for step in range(6):
        cost = plane.left + (plane.right - plane.left) * step / 5
        accuracy = plane.low + (plane.high - plane.low) * step / 5
        x, y = plane.at((cost, accuracy))
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>'
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#eee"/>'
        yield text(x, HEIGHT - BOTTOM + 18, f"{cost:.2f}", size=12, anchor="middle")
        yield text(LEFT - 8, y + 4, f"{accuracy:.1%}", size=12, anchor="end")
    yield text(WIDTH - RIGHT, HEIGHT - 14, "seconds, in those of the large model alone", size=12, anchor="end")
    yield text(20, TOP - 12, "accuracy on the test rows", size=12)


def level(plane: Plane, accuracy: float, words: str) -> Iterator[str]:
    _, y = plane.at((0.0, accuracy))
    yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#888" stroke-dasharray="4 4"/>'
    yield text(WIDTH - RIGHT + 8, y + 4, words, size=12, color="#666")


def line(plane: Plane, points: Sequence[Point], color: str, words: str, number: int) -> Iterator[str]:
    shown = " ".join("{:.1f},{:.1f}".format(*plane.at(point)) for point in points)
    yield f'<polyline points="{shown}" fill="none" stroke="{color}" stroke-width="1.6"/>'
    yield text(WIDTH - RIGHT + 8, HEIGHT - BOTTOM - 90 + 20 * number, words, size=13, color=color)


def gate(plane: Plane, one: dict[str, Any], number: int) -> Iterator[str]:
    """Where a calibrated gate landed, with the 95 % interval of its accuracy."""
    accuracy, low, high = one["test"]["cascade"]
    x, y = plane.at((1 - one["test"]["cost_saved"][0], accuracy))
    ends = [plane.at((0.0, value))[1] for value in (low, high)]
    yield f'<line x1="{x:.1f}" y1="{ends[0]:.1f}" x2="{x:.1f}" y2="{ends[1]:.1f}" stroke="{COLORS[number]}"/>'
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLORS[number]}"/>'
