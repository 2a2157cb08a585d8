"""A comparison as one plain document: what `--json` prints, and what tables and the page are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from miaotui.compress.compare.answers import Answer
from miaotui.compress.compare.frontier import frontier
from miaotui.compress.compare.quality import Quality
from miaotui.compress.compare.speed import Speed
from miaotui.compress.divergence import Divergence
from miaotui.compress.evaluate.items import KINDS, Task
from miaotui.compress.evaluate.paired import compare_answers
from miaotui.compress.evaluate.solve import Solved
from miaotui.compress.intervals import Difference


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model without running it. types: how many weights are of which type."""

    name: str
    path: str
    num_bytes: int
    num_weights: int
    types: Mapping[str, int]
    architecture: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Start:
    """A fresh process: seconds until the model could take a prompt (median of some), and its most memory after that."""

    load_s: float
    peak_memory_bytes: int


@dataclass(slots=True)
class Comparison:
    """What has been measured so far; a part that was left out, or not reached, is None.

    machine: processor, threads. text: what perplexity and divergence are over. energy: what was counted, or why not.
    """

    facts: Sequence[Facts]
    machine: Mapping[str, Any]
    date: str
    starts: Sequence[Start] | None = None
    speeds: Sequence[Speed] | None = None
    energy: str = ""
    has_energy: bool = False
    quality: Sequence[Quality] | None = None
    text: str = ""
    tasks: list[tuple[Task, Sequence[Solved]]] = field(default_factory=list)
    prompts: Sequence[str] = ()
    answers: Sequence[Sequence[Answer]] | None = None
    peak_memory_bytes: int = 0
    is_whole: bool = True
    notes: list[str] = field(default_factory=list)


def document(found: Comparison) -> dict[str, Any]:
    """Everything that was found, in JSON's types; what is unknown or unbounded is null."""
    models = [_model(found, at) for at in range(len(found.facts))]
    best = frontier_of(models)
    for model, is_best in zip(models, best, strict=True):
        model["on_frontier"] = is_best
    notes = [*found.notes, *(q.refused for q in found.quality or () if q.refused)]
    whole: dict[str, Any] = {
        "date": found.date,
        "is_whole": found.is_whole,
        "machine": dict(found.machine),
        "text": found.text if found.quality else None,
        "energy": {"is_readable": found.has_energy, "what": found.energy} if found.speeds else None,
        "peak_memory_bytes": found.peak_memory_bytes,
        "models": models,
        "tasks": [_task(task, solved, found.facts) for task, solved in found.tasks],
        "answers": _answers(found),
        "notes": notes,
    }
    finite: dict[str, Any] = _finite(whole)
    return finite


def _model(found: Comparison, at: int) -> dict[str, Any]:
    facts = found.facts[at]
    return {
        "name": facts.name,
        "path": facts.path,
        "architecture": facts.architecture,
        "settings": dict(facts.settings),
        "bytes": facts.num_bytes,
        "weights": facts.num_weights,
        "bits_per_weight": 8 * facts.num_bytes / facts.num_weights,
        "types": dict(facts.types),
        "start": asdict(found.starts[at]) if found.starts else None,
        "speed": asdict(found.speeds[at]) if found.speeds else None,
        "quality": _quality(found.quality[at]) if found.quality else None,
    }


def _quality(quality: Quality) -> dict[str, Any]:
    low, high = quality.ppl_interval
    divergence = quality.divergence
    return {
        "windows": len(quality.losses),
        "tokens": sum(quality.tokens),
        "ppl": {"value": quality.ppl, "low": low, "high": high},
        "bits_per_byte": quality.bits_per_byte,
        "excess_bits_per_byte": _interval(quality.excess, 1 / math.log(2)) if quality.excess else None,
        "divergence": _divergence(divergence) if divergence else None,
        "refused": quality.refused,
    }


def _divergence(divergence: Divergence) -> dict[str, Any]:
    low, high = divergence.agreement_interval
    return {
        "kl": {
            "value": divergence.kl,
            "low": divergence.kl - divergence.kl_halfwidth,
            "high": divergence.kl + divergence.kl_halfwidth,
        },
        "kl_p99": divergence.kl_p99,
        "agreement": {"value": divergence.agreement, "low": low, "high": high},
    }


def _interval(difference: Difference, scale: float = 1.0) -> dict[str, Any]:
    return {name: value * scale for name, value in asdict(difference).items()} | {"is_real": difference.is_real}


def _task(task: Task, solved: Sequence[Solved], facts: Sequence[Facts]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for at, (one, own) in enumerate(zip(facts, solved, strict=True)):
        low, high = own.interval
        results[one.name] = {
            "right": sum(own.right),
            "accuracy": {"value": own.accuracy, "low": low, "high": high},
            "accuracy_per_byte": sum(own.by_length) / len(own.by_length) if own.by_length else None,
            "target_ppl": _exp(own.target_loss),
            "against_first": _paired(solved[0], own) if at else None,
        }
    return {"name": task.name, "kind": task.kind, "what": KINDS[task.kind], "items": len(task.items), "models": results}


def _exp(loss: float | None) -> float | None:
    return None if loss is None else math.exp(min(loss, 700.0))


def _paired(first: Solved, own: Solved) -> dict[str, Any]:
    paired = compare_answers(first.right, own.right)
    return {
        "only_first_right": paired.lost,
        "only_this_right": paired.won,
        "difference": _interval(paired.difference) | {"is_real": paired.is_real},
        "p_value": paired.p_value,
    }


def _answers(found: Comparison) -> list[dict[str, Any]] | None:
    if found.answers is None:
        return None
    return [
        {"prompt": prompt, "answers": {f.name: asdict(one) for f, one in zip(found.facts, own, strict=True)}}
        for prompt, own in zip(found.prompts, found.answers, strict=True)
    ]


def loss_of(model: Mapping[str, Any]) -> float | None:
    """What stands for a model's quality, less being better: bits that a byte of text takes; None if not measured."""
    quality = model["quality"]
    return None if quality is None else float(quality["bits_per_byte"])


def distance_of(model: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> float | None:
    """KL from the first model, 0 for that one; None if it was not measured or refused."""
    quality = model["quality"]
    if quality is None:
        return None
    if model is models[0]:
        return 0.0
    return None if quality["divergence"] is None else float(quality["divergence"]["kl"]["value"])


def has_distances(models: Sequence[Mapping[str, Any]]) -> bool:
    """Whether KL tells all models' quality; otherwise, bits per byte do."""
    return len(models) > 1 and all(distance_of(model, models) is not None for model in models)


def frontier_of(models: Sequence[Mapping[str, Any]]) -> list[bool | None]:
    """Whether no other model is as good in size, decode speed and quality and better in one; None where unknown."""
    by_distance = has_distances(models)
    points = []
    for model in models:
        loss = distance_of(model, models) if by_distance else loss_of(model)
        if loss is None or model["speed"] is None:
            return [None] * len(models)
        points.append((float(model["bytes"]), -float(model["speed"]["write"]["value"]), loss))
    return list(frontier(points))


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON has no words for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
