"""Tables and a plot of what peers.py measured.

usage: peer_report.py RESULTS.json      (writes RESULTS.md and RESULTS.svg beside it; peers.py --out does so itself)
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from common import write_record

Rates = dict[str, dict[str, list[float]]]

COLORS = {"miaotui": "#4363d8", "miaotui-int8": "#42a4f4", "llama.cpp": "#f58231", "openvino": "#9a6324"}
BAR, LEFT, WIDTH, LONGEST = 15, 190, 1000, 620


def summary(values: list[float], llama: list[float]) -> tuple[float, float, float, float]:
    """Median, lowest and highest rate; the median of the runs' ratios to llama.cpp."""
    ratio = statistics.median(a / b for a, b in zip(values, llama, strict=True))
    return statistics.median(values), min(values), max(values), ratio


def table(results: dict[str, Rates]) -> str:
    """One Markdown row for each model and kind of job: rate (range) and ratio of each engine."""
    engines = list(COLORS)
    lines = [
        "| model file | tokens/s | " + " | ".join(engines) + " |",
        "|---|---|" + "---|" * len(engines),
    ]
    for model, rates in results.items():
        for kind, by_engine in rates.items():
            cells = []
            for engine in engines:
                values = by_engine.get(engine)
                if not values:
                    cells.append("")
                    continue
                median, low, high, ratio = summary(values, by_engine["llama.cpp"])
                shown = "" if engine == "llama.cpp" else f" = {ratio:.2f} ×"
                cells.append(f"{median:.0f} ({low:.0f}–{high:.0f}){shown}")
            lines.append(f"| {model} | {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(machine: dict[str, Any], results: dict[str, Rates]) -> str:
    """SVG: for each model and kind of job a bar per engine, as long as its ratio to llama.cpp; whiskers are ranges."""
    parts: list[str] = []
    top = 60.0
    longest = max(_ratios(results))
    for model, rates in results.items():
        parts.append(_text(20, top + 14, model, size=14))
        top += 24
        for kind, by_engine in rates.items():
            parts.append(_text(20, top + BAR - 3, kind))
            for engine, values in by_engine.items():
                if values:
                    parts += _bar(top, engine, values, by_engine["llama.cpp"], LONGEST / longest)
                    top += BAR
            top += 8
        top += 12
    facts = f"{machine['cpu']}, {machine['tier']}, {machine['threads']} threads, {machine['date']}, {machine['commit']}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:.0f}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{top:.0f}" fill="white"/>',
        _text(20, 26, f"Speed as a multiple of llama.cpp's, labels in tokens/s ({facts})", size=15),
    ]
    for i, (engine, color) in enumerate(COLORS.items()):
        head.append(f'<rect x="{20 + 140 * i}" y="36" width="12" height="12" fill="{color}"/>')
        head.append(_text(38 + 140 * i, 47, engine))
    return "\n".join([*head, *parts, "</svg>\n"])


def _ratios(results: dict[str, Rates]) -> Iterator[float]:
    for rates in results.values():
        for by_engine in rates.values():
            for values in by_engine.values():
                if values:
                    _, _, high, _ = summary(values, by_engine["llama.cpp"])
                    yield high / statistics.median(by_engine["llama.cpp"])


def _bar(top: float, engine: str, values: list[float], llama: list[float], scale: float) -> Iterator[str]:
    median, low, high, ratio = summary(values, llama)
    unit, middle = scale / statistics.median(llama), top + BAR / 2 - 1
    yield f'<rect x="{LEFT}" y="{top:.1f}" width="{scale * ratio:.1f}" height="{BAR - 2}" fill="{COLORS[engine]}"/>'
    yield (
        f'<line x1="{LEFT + low * unit:.1f}" y1="{middle:.1f}" x2="{LEFT + high * unit:.1f}" y2="{middle:.1f}"'
        ' stroke="#222"/>'
    )
    end = LEFT + max(scale * ratio, high * unit) + 6
    yield _text(end, top + BAR - 4, f"{median:.0f}" + (f"  {ratio:.2f} ×" if engine != "llama.cpp" else ""), size=11)


def _text(x: float, y: float, text: str, *, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#222">{escape(text)}</text>'


def write(record: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON to `path`, and as a table and a plot beside it."""
    write_record(record, path)
    path.with_suffix(".md").write_text(table(record["tokens_per_s"]))
    path.with_suffix(".svg").write_text(plot(record["machine"], record["tokens_per_s"]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[1]))
