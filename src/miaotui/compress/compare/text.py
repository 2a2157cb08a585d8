"""A comparison for people: tables of text, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from miaotui.formats.store_progress import format_bytes

NONE = "–"
Model = Mapping[str, Any]
Column = tuple[str, Callable[[Model], str]]
Table = tuple[str, list[str], list[list[str]]]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """Title, heads and rows of each; a row per model. Only what was measured."""
    models = report["models"]
    made = [("size", _SIZE)]
    if models[0]["speed"]:
        made.append(("speed", _speed(report)))
    if models[0]["quality"]:
        made.append((f"quality, over {report['text']}", _quality(models)))
    found: list[Table] = [
        (
            title,
            ["model", *(head for head, _ in columns)],
            [[m["name"], *(cell(m) for _, cell in columns)] for m in models],
        )
        for title, columns in made
    ]
    return found + [_task(task) for task in report["tasks"]]


def _interval(value: Mapping[str, Any] | None, write: Callable[[float], str]) -> str:
    if value is None:
        return NONE
    if value["low"] is None or value["high"] is None:
        return write(value["value"])
    return f"{write(value['value'])} [{write(value['low'])}, {write(value['high'])}]"


def rate(value: float) -> str:
    """Tokens a second with three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def small(value: float) -> str:
    """A divergence with three digits; what is below a millionth is no more than rounding."""
    return "0" if abs(value) < 1e-6 else f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


def percent(value: float) -> str:
    """A share with a digit behind the point."""
    return f"{100 * value:.1f} %"


def probability(value: float) -> str:
    """Of a test."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


_SIZE: list[Column] = [
    ("bytes", lambda m: format_bytes(m["bytes"])),
    ("bits/weight", lambda m: f"{m['bits_per_weight']:.2f}"),
    ("load", lambda m: f"{m['start']['load_s']:.2f} s" if m["start"] else NONE),
    ("peak memory", lambda m: format_bytes(m["start"]["peak_memory_bytes"]) if m["start"] else NONE),
]


def _speed(report: Mapping[str, Any]) -> list[Column]:
    columns: list[Column] = [
        ("prefill tok/s", lambda m: _interval(m["speed"]["read"], rate)),
        ("to first", lambda m: f"{m['speed']['read_ratio']['value']:.2f}×"),
        ("decode tok/s", lambda m: _interval(m["speed"]["write"], rate)),
        ("to first", lambda m: f"{m['speed']['write_ratio']['value']:.2f}×"),
    ]
    if report["energy"]["is_readable"]:
        columns += [
            ("prefill J/tok", lambda m: _energy(m["speed"]["read_j"])),
            ("decode J/tok", lambda m: _energy(m["speed"]["write_j"])),
        ]
    else:
        columns.append(("energy", lambda m: "not readable"))
    return columns


def _energy(value: float | None) -> str:
    return "not readable" if value is None else f"{value:.3g}"


def _quality(models: list[Model]) -> list[Column]:
    columns: list[Column] = [("perplexity", lambda m: _interval(m["quality"]["ppl"], lambda x: f"{x:.4g}"))]
    if any(m["quality"]["refused"] for m in models):
        columns.append(("bits/byte", lambda m: f"{m['quality']['bits_per_byte']:.4f}"))
    if len(models) > 1:
        columns += [
            ("more bits/byte than first", _excess),
            ("KL to first, nats", lambda m: _of_divergence(m, lambda d: _interval(d["kl"], small))),
            ("KL p99", lambda m: _of_divergence(m, lambda d: small(d["kl_p99"]))),
            ("same top token", lambda m: _of_divergence(m, lambda d: _interval(d["agreement"], percent))),
        ]
    return columns


def _excess(model: Model) -> str:
    excess = model["quality"]["excess_bits_per_byte"]
    if excess is None:
        return NONE
    shown = f"{excess['value']:+.4f}"
    if excess["low"] is None or excess["high"] is None:
        return shown
    return f"{shown} [{excess['low']:+.4f}, {excess['high']:+.4f}]"


def _of_divergence(model: Model, write: Callable[[Model], str]) -> str:
    quality = model["quality"]
    if quality["refused"]:
        return "other vocabulary"
    return NONE if quality["divergence"] is None else write(quality["divergence"])


def _task(task: Mapping[str, Any]) -> Table:
    heads = ["model", "right", "accuracy"]
    kind, several = task["kind"], len(task["models"]) > 1
    heads += {"choice": ["by bytes"], "cloze": ["perplexity of the word"], "exact": []}[kind]
    heads += ["to first", "p", "verdict"] if several else []
    rows = []
    for name, own in task["models"].items():
        row = [name, f"{own['right']} of {task['items']}", _interval(own["accuracy"], percent)]
        if kind == "choice":
            row.append(percent(own["accuracy_per_byte"]))
        elif kind == "cloze":
            row.append(f"{own['target_ppl']:.4g}")
        rows.append(row + (_against(own["against_first"]) if several else []))
    return f"{task['name']}: {task['what']}", heads, rows


def _against(paired: Mapping[str, Any] | None) -> list[str]:
    if paired is None:
        return [NONE, NONE, NONE]
    change = paired["difference"]
    points = ", ".join(f"{100 * change[end]:+.1f}" for end in ("low", "high"))
    words = "no more than chance" if not change["is_real"] else "worse" if change["value"] < 0 else "better"
    return [f"{100 * change['value']:+.1f} points [{points}]", probability(paired["p_value"]), words]


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was measured where, as names and values."""
    machine, models = report["machine"], report["models"]
    found = [
        ("first model", f"{models[0]['name']}: the others are measured against it"),
        ("machine", f"{machine['model']}, {machine['tier']}, {machine['threads']} threads"),
        ("date", report["date"]),
    ]
    if models[0]["speed"]:
        found.append(("energy", report["energy"]["what"]))
    found.append(("this tool", f"{format_bytes(report['peak_memory_bytes'])} of memory at most"))
    return found


def notes(report: Mapping[str, Any]) -> list[str]:
    """What must be known to read the tables."""
    models = report["models"]
    found = list(report["notes"])
    if not report["is_whole"]:
        found.append("Interrupted: what is missing was not measured.")
    if models[0]["speed"]:
        found.append("Speeds are medians of alternating rounds, [slowest, fastest]; ratios are taken round by round.")
    if models[0]["quality"] or report["tasks"]:
        found.append("Other brackets are 95 % intervals.")
    if report["tasks"] and len(models) > 1:
        found.append("p is of McNemar's exact test on the questions that only one of the two has right.")
    if any(model["on_frontier"] for model in models):
        best = ", ".join(model["name"] for model in models if model["on_frontier"])
        found.append(f"On the frontier of size, decode speed and quality: {best}.")
    return found


def same_words(answer: Mapping[str, Any]) -> str:
    """How an answer relates to the first model's."""
    if answer["is_same"]:
        return "the same"
    return f"the same for {answer['agrees']} characters" if answer["agrees"] else "different from the start"
