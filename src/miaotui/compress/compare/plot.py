"""Speed, quality and size of models in two pictures, with the frontier in each; its colours are those of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from miaotui.compress.compare.document import distance_of, has_distances, loss_of
from miaotui.compress.compare.frontier import frontier
from miaotui.drawing.svg import escaped, text

WIDTH, HEIGHT = 400, 340
LEFT, RIGHT, TOP, BOTTOM = 50, 22, 44, 48
NUM_COLORS = 8
INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"

Model = Mapping[str, Any]
Interval = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie between 0 and 1 of an axis, and what is written beside it."""

    name: str
    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Dot:
    """A model: its number, and value, low and high on both axes; radius in px."""

    number: int
    name: str
    x: Interval
    y: Interval
    radius: float


def draw(report: Mapping[str, Any]) -> list[str]:
    """Quality over decode speed, and quality over size, as SVG; nothing where quality or speed was not measured."""
    models = report["models"]
    losses = [_loss(model, models) for model in models]
    if any(loss is None for loss in losses):
        return []
    shown = [loss for loss in losses if loss is not None]
    y_axis = _kl_axis(shown) if has_distances(models) else _linear("bits per byte (less is better)", shown)
    largest = max(model["bytes"] for model in models)
    radii = [5 + 11 * math.sqrt(model["bytes"] / largest) for model in models]
    sizes = [(m["bytes"] / 1e6,) * 3 for m in models]
    pictures = []
    if all(model["speed"] for model in models):
        rates = [_three(model["speed"]["write"]) for model in models]
        dots = _dots(models, rates, shown, radii)
        axis = _linear("decode, tokens a second (more is better)", rates)
        pictures.append(_picture("Quality over speed; a circle's area is the size", axis, y_axis, dots, -1.0))
    axis = _linear("MB (less is better)", sizes)
    pictures.append(_picture("Quality over size", axis, y_axis, _dots(models, sizes, shown, [6.0] * len(models)), 1.0))
    return pictures


def _three(value: Mapping[str, Any]) -> Interval:
    low, high = value["low"], value["high"]
    middle = float(value["value"])
    return middle, middle if low is None else float(low), middle if high is None else float(high)


def _loss(model: Model, models: Sequence[Model]) -> Interval | None:
    if not has_distances(models):
        loss = loss_of(model)
        return None if loss is None else (loss,) * 3
    distance = distance_of(model, models)
    if distance is None:
        return None
    return _three(model["quality"]["divergence"]["kl"]) if distance else (0.0,) * 3


def _dots(models: Sequence[Model], xs: Sequence[Interval], ys: Sequence[Interval], radii: Sequence[float]) -> list[Dot]:
    together = zip(models, xs, ys, radii, strict=True)
    return [Dot(n, m["name"], x, y, radius) for n, (m, x, y, radius) in enumerate(together, 1)]


def _linear(name: str, values: Sequence[Interval]) -> Axis:
    """From below the smallest to above the largest, with round numbers at the ticks."""
    low, high = min(min(v) for v in values), max(max(v) for v in values)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
    step = _round_step((high - low) / 4)
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Axis(name, lambda value: (value - low) / (high - low), [(tick, f"{tick:.6g}") for tick in ticks])


def _round_step(about: float) -> float:
    unit = 10.0 ** math.floor(math.log10(about))
    return next(k * unit for k in (1, 2, 5, 10) if k * unit >= about)


def _kl_axis(values: Sequence[Interval]) -> Axis:
    """Logarithmic, and at its foot a place for 0, which is the first model's."""
    positive = [max(v[0], 1e-6) for v in values if v[0] > 0] or [1e-3]
    tops = [max(v) for v in values if v[0] > 0]
    low, high = math.log10(min(positive)) - 0.35, math.log10(max(tops, default=1.0))
    high = max(high, low + 0.7) + 0.15

    def place(value: float) -> float:
        if value <= 0:
            return 0.06
        return 0.14 + 0.86 * max(math.log10(value) - low, 0.0) / (high - low)

    steps = (1, 2, 5) if high - low < 2 else (1,)
    exponents = range(math.floor(low), math.ceil(high) + 1)
    marks = [step * 10.0**e for e in exponents for step in steps]
    ticks = [(mark, f"{mark:g}") for mark in marks if low <= math.log10(mark) <= high]
    return Axis("KL to the first model, nats (less is better)", place, [(0.0, "0"), *ticks])


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _picture(title: str, x_axis: Axis, y_axis: Axis, dots: Sequence[Dot], x_sign: float) -> str:
    label = escaped(f"{title}. {y_axis.name}; {x_axis.name}.")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">',
        text(4, 16, title, size=15, color=INK),
        text(4, 35, y_axis.name, size=12, color=MUTED),
        *_grid(x_axis, y_axis),
        *_frontier(x_axis, y_axis, dots, x_sign),
    ]
    for dot in sorted(dots, key=lambda dot: -dot.radius):
        parts += _dot(x_axis, y_axis, dot)
    return "\n".join([*parts, "</svg>"])


def _grid(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    left, right, top, bottom = _x(0), _x(1), _y(1), _y(0)
    for value, name in x_axis.ticks:
        at = _x(x_axis.place(value))
        yield f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}" stroke="{LINE}"/>'
        yield text(at, bottom + 16, name, size=12, anchor="middle", color=MUTED)
    for value, name in y_axis.ticks:
        at = _y(y_axis.place(value))
        yield f'<line x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="{LINE}"/>'
        yield text(left - 6, at + 4, name, size=12, anchor="end", color=MUTED)
    yield text(right, bottom + 36, x_axis.name, size=12, anchor="end", color=MUTED)


def _frontier(x_axis: Axis, y_axis: Axis, dots: Sequence[Dot], x_sign: float) -> Iterator[str]:
    """Steps through those dots that no other beats on these two axes."""
    best = frontier([(x_sign * dot.x[0], dot.y[0]) for dot in dots])
    chosen = sorted((dot for dot, is_best in zip(dots, best, strict=True) if is_best), key=lambda d: d.x[0])
    spots = [(_x(x_axis.place(dot.x[0])), _y(y_axis.place(dot.y[0]))) for dot in chosen]
    corners = []
    for (x0, y0), (x1, y1) in pairwise(spots):
        corners += [(x0, y0), (x0, y1) if x_sign < 0 else (x1, y0), (x1, y1)]
    if corners:
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        yield f'<polyline points="{line}" fill="none" stroke="{MUTED}" stroke-width="1.5" stroke-dasharray="5 4"/>'


def _dot(x_axis: Axis, y_axis: Axis, dot: Dot) -> Iterator[str]:
    """A circle with its number beside it, and bars for what is uncertain."""
    x, y = _x(x_axis.place(dot.x[0])), _y(y_axis.place(dot.y[0]))
    color = f"var(--c{(dot.number - 1) % NUM_COLORS})"
    x_low, x_high = (_x(x_axis.place(value)) for value in dot.x[1:])
    y_low, y_high = (_y(y_axis.place(value)) for value in dot.y[1:])
    yield f'<line x1="{x_low:.1f}" y1="{y:.1f}" x2="{x_high:.1f}" y2="{y:.1f}" stroke="{color}" stroke-width="2"/>'
    yield f'<line x1="{x:.1f}" y1="{y_low:.1f}" x2="{x:.1f}" y2="{y_high:.1f}" stroke="{color}" stroke-width="2"/>'
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{dot.radius:.1f}"'
    title = f"<title>{escaped(f'{dot.number}: {dot.name}')}</title>"
    yield f'<circle {place} fill="{color}" fill-opacity=".45" stroke="{color}" stroke-width="1.5">{title}</circle>'
    yield text(x + dot.radius + 4, y - 6, str(dot.number), size=14, color=INK)
