"""Lines or dots over two axes that begin at zero, as pieces of an SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from miaotui.drawing.svg import COLORS, round_up, text

WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 1120, 470, 240
LEFT, GAP_X, GAP_Y = 60, 70, 76
NAMES_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Chart:
    """Axes' names and lines: name, points; whether the points are joined, and the names written at the lines' ends."""

    title: str
    x_name: str
    lines: Sequence[tuple[str, Sequence[Sequence[float]]]]
    joined: bool = True
    named: bool = False


def picture(title: str, facts: str, names: Sequence[str], charts: Sequence[Chart]) -> str:
    """One SVG: a heading, what stands for which name, and the charts, two a row. All text is escaped."""
    rows = (len(charts) + 1) // 2
    top = 78 + 18 * ((len(names) + NAMES_A_ROW - 1) // NAMES_A_ROW)
    height = top + rows * (PANEL_HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(20, 28, title, size=18),
        text(20, 50, facts),
        *_legend(names),
    ]
    for index, chart in enumerate(charts):
        x = LEFT + index % 2 * (PANEL_WIDTH + GAP_X)
        parts += _panel(x, top + index // 2 * (PANEL_HEIGHT + GAP_Y), chart)
    return "\n".join([*parts, "</svg>\n"])


def _legend(names: Sequence[str]) -> Iterator[str]:
    for index, name in enumerate(names):
        x, y = 20 + 215 * (index % NAMES_A_ROW), 62 + 18 * (index // NAMES_A_ROW)
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLORS[index % len(COLORS)]}"/>'
        yield text(x + 18, y + 11, name)


def _panel(left: float, top: float, chart: Chart) -> Iterator[str]:
    points = [point for _, line in chart.lines for point in line]
    x_high = round_up(max((point[0] for point in points), default=1.0))
    y_high = round_up(max((point[1] for point in points), default=1.0))
    bottom = top + PANEL_HEIGHT

    def place(point: Sequence[float]) -> tuple[float, float]:
        return left + point[0] / x_high * PANEL_WIDTH, bottom - point[1] / y_high * PANEL_HEIGHT

    yield text(left, top - 10, chart.title, size=14)
    yield from _grid(left, top, x_high, y_high)
    yield text(left + PANEL_WIDTH, bottom + 34, chart.x_name, size=11, anchor="end")
    for index, (line_name, line) in enumerate(chart.lines):
        color = COLORS[index % len(COLORS)]
        yield from _joined(line, place, color) if chart.joined else _dots(line, place, color)
        if chart.named and line:
            x, y = place(line[-1])
            yield text(x - 6, y - 6, line_name, size=11, anchor="end")
    if not points:
        yield text(left + PANEL_WIDTH / 2, top + PANEL_HEIGHT / 2, "nothing was measured", anchor="middle")


def _grid(left: float, top: float, x_high: float, y_high: float) -> Iterator[str]:
    bottom, right = top + PANEL_HEIGHT, left + PANEL_WIDTH
    yield f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none" stroke="#999"/>'
    for part in range(5):
        x, y = left + PANEL_WIDTH * part / 4, bottom - PANEL_HEIGHT * part / 4
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#eee"/>'
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#eee"/>'
        yield text(x, bottom + 16, f"{x_high * part / 4:.4g}", size=11, anchor="middle")
        yield text(left - 6, y + 4, f"{y_high * part / 4:.4g}", size=11, anchor="end")


Place = Callable[[Sequence[float]], tuple[float, float]]


def _joined(line: Sequence[Sequence[float]], place: Place, color: str) -> Iterator[str]:
    spots = [place(point) for point in line]
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    yield f'<polyline points="{shown}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    if len(spots) <= 12:
        yield from _dots(line, place, color)


def _dots(line: Sequence[Sequence[float]], place: Place, color: str) -> Iterator[str]:
    for x, y in map(place, line):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>'
