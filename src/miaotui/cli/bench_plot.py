"""`miaotui bench --ops --plot FILE.svg`: the roofline with every kind of operator in it, a step as a stacked bar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.drawing.svg import COLORS, escaped, text

if TYPE_CHECKING:
    from miaotui.cli.bench_ops import OpTime

WIDTH, PANEL, MARGIN, GAP = 1120, 420, 70, 60
SMALLEST_SHARE = 0.01
"""Operators with less of a step than this are drawn as one."""


def write_plot(path: Path, title: str, ops: Mapping[str, Sequence[OpTime]], ceilings: Mapping[str, float]) -> None:
    """Write one SVG: for each phase a roofline and a bar. Raises OSError where the file cannot be written."""
    height = MARGIN + len(ops) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(MARGIN, 34, title, size=18),
    ]
    for row, (phase, times) in enumerate(ops.items()):
        top = MARGIN + row * (PANEL + GAP)
        large = _without_small(times)
        colors = {op: COLORS[i % len(COLORS)] for i, op in enumerate(large)}
        parts += _roofline(top, phase, colors, ceilings)
        parts += _bar(top, times, colors)
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _without_small(times: Sequence[OpTime]) -> list[OpTime]:
    total = sum(op.seconds for op in times)
    return [op for op in times if op.seconds >= SMALLEST_SHARE * total]


def _roofline(top: int, phase: str, colors: Mapping[OpTime, str], ceilings: Mapping[str, float]) -> Iterator[str]:
    """Operations a second over operations a byte, both logarithmic."""
    left, right, bottom = MARGIN, MARGIN + 560, top + PANEL
    shown = [op for op in colors if op.bytes and op.operations]
    intensities = [op.operations / op.bytes for op in shown] or [1.0]
    x_low, x_high = math.log10(min(*intensities, 0.5)) - 0.2, math.log10(max(*intensities, 1e3)) + 0.2
    y_high = math.log10(ceilings["int8_gops"]) + 0.2
    y_low = y_high - 3.2

    def x(intensity: float) -> float:
        return left + (math.log10(intensity) - x_low) / (x_high - x_low) * (right - left)

    def y(gops: float) -> float:
        return bottom - (max(math.log10(gops), y_low) - y_low) / (y_high - y_low) * PANEL

    yield f'<rect x="{left}" y="{top}" width="{right - left}" height="{PANEL}" fill="none" stroke="#999"/>'
    yield text(left, top - 8, f"{phase}: GOPS over operations per byte of weights and KV pages")
    for exponent in range(math.ceil(x_low), math.floor(x_high) + 1):
        at = x(10.0**exponent)
        yield f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}" stroke="#eee"/>'
        yield text(at - 8, bottom + 16, f"{10.0**exponent:g}", size=11)
    for exponent in range(math.ceil(y_low), math.floor(y_high) + 1):
        at = y(10.0**exponent)
        yield f'<line x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="#eee"/>'
        yield text(left - 44, at + 4, f"{10.0**exponent:g}", size=11)
    bandwidth = ceilings["read_gb_per_s"]
    for name, unit in (("int8_gops", "GOPS int8"), ("f32_gflops", "GFLOPS float32")):
        roof = ceilings[name]
        bend, start = roof / bandwidth, max(10.0**x_low, 10.0**y_low / bandwidth)
        points = ((start, start * bandwidth), (bend, roof), (10.0**x_high, roof))
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        yield f'<polyline points="{line}" fill="none" stroke="#333" stroke-width="1.5"/>'
        yield text(right - 130, y(roof) - 5, f"{roof:.0f} {unit}", size=11)
    yield text(x(start) + 6, y(start * bandwidth) - 8, f"{bandwidth:.0f} GB/s", size=11)
    for op in shown:
        gops = op.operations / op.seconds / 1e9
        place = f'cx="{x(op.operations / op.bytes):.1f}" cy="{y(gops):.1f}"'
        yield f'<circle {place} r="6" fill="{colors[op]}"><title>{escaped(op.name)}: {gops:.0f} GOPS</title></circle>'


def _bar(top: int, times: Sequence[OpTime], colors: Mapping[OpTime, str]) -> Iterator[str]:
    """A step from top to bottom, beside it what each part is and how much of its roofline it reaches."""
    left, total, at = MARGIN + 620, sum(op.seconds for op in times), float(top)
    yield text(left, top - 8, f"one step, {total * 1e3:.2f} ms; of roofline")
    label = top + 12.0
    for op in [*colors, None]:
        seconds = op.seconds if op else total - sum(other.seconds for other in colors)
        if seconds <= 0:
            continue
        size = seconds / total * PANEL
        color = colors[op] if op else "#bbb"
        yield f'<rect x="{left}" y="{at:.1f}" width="90" height="{size:.1f}" fill="{color}" stroke="white"/>'
        label = max(label, at + min(size / 2, 12) + 4)
        name = f"{op.kind} {op.name}, {op.ceiling_s / op.seconds:.0%}" if op else "everything else"
        yield text(left + 104, label, f"{seconds / total:.0%} {name}", size=12, color=color)
        at, label = at + size, label + 16
