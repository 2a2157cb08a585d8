"""Exits as files that may come from anybody: safetensors, with all but the heads as JSON among the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.exits.exits import MAX_LABELS, Exits
from miaotui.adaptive.exits.head import Head
from miaotui.core import Activations
from miaotui.errors import ExitsError, ModelFileError, ModelNotFoundError, UnsupportedModelError, brief
from miaotui.formats.json_file import strict_json
from miaotui.formats.safetensors import read_metadata, read_tensors
from miaotui.formats.safetensors_write import write_safetensors
from miaotui.formats.weights import MappedFile, Tensor

FORMAT, VERSION, KEY = "miaotui exits", 1, "miaotui.exits"
MAX_BYTES = 256 << 20
MAX_FACTS, MAX_FACT_CHARACTERS = 64, 1000
FIELDS = {"format", "version", "labels", "threshold", "model", "activations", "floor", "confidence", "facts"}


def save_exits(exits: Exits, path: Path) -> None:
    """Write the file whole or not at all. Raises OutputError."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "labels": list(exits.labels),
        "threshold": exits.threshold,
        "model": exits.model,
        "activations": exits.activations,
        "floor": exits.floor,
        "confidence": exits.confidence,
        "facts": dict(exits.facts),
    }
    tensors: dict[str, NDArray[np.float32]] = {}
    for head in exits.heads:
        tensors[f"heads.{head.layer}.weight"] = head.weights
        tensors[f"heads.{head.layer}.bias"] = head.bias
    write_safetensors(path, tensors, {KEY: json.dumps(content, ensure_ascii=False, allow_nan=False)})


def load_exits(path: Path) -> Exits:
    """Raises ExitsError for a file that cannot be read, or holds no exits."""
    try:
        file = MappedFile(path)
        if file.size > MAX_BYTES:
            raise _error(path, f"is longer than {MAX_BYTES >> 20} MiB")
        fields = _fields(read_metadata(file).get(KEY), path)
        heads = _heads(read_tensors(file), path)
        return Exits(
            labels=_texts(fields["labels"], path),
            heads=heads,
            threshold=None if fields["threshold"] is None else _number(fields["threshold"], path, "threshold"),
            model=_text(fields["model"], path, "model"),
            activations=cast(Activations, _text(fields["activations"], path, "activations")),
            floor=_number(fields["floor"], path, "floor"),
            confidence=_number(fields["confidence"], path, "confidence"),
            facts=_facts(fields["facts"], path),
        )
    except ExitsError as error:
        told = str(error).startswith(str(path))
        raise error if told else _error(path, str(error).removesuffix("; train the exits anew.")) from None
    except (ModelFileError, ModelNotFoundError, UnsupportedModelError) as error:
        raise _error(path, str(error).removeprefix(f"{path}: ").rstrip(".")) from None


def _error(path: Path, problem: str) -> ExitsError:
    return ExitsError(f"{path}: {problem}; give a file that `miaotui exits train` wrote.")


def _fields(text: str | None, path: Path) -> Mapping[str, Any]:
    if text is None:
        raise _error(path, f"has no {KEY!r} among its metadata")
    try:
        fields = strict_json(text.encode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _error(path, f"{KEY!r} is not JSON ({error!s:.100})") from None
    if not isinstance(fields, dict) or set(fields) != FIELDS:
        raise _error(path, f"{KEY!r} must be an object of {', '.join(sorted(FIELDS))}")
    if fields["format"] != FORMAT or type(fields["version"]) is not int or fields["version"] != VERSION:
        raise _error(path, f"is not of format {FORMAT!r}, version {VERSION}")
    return fields


def _heads(tensors: list[Tensor], path: Path) -> tuple[Head, ...]:
    """A weight and a bias for each layer that is named."""
    parts: dict[int, dict[str, NDArray[np.float32]]] = {}
    for tensor in tensors:
        stem, _, kind = tensor.name.rpartition(".")
        number = stem.removeprefix("heads.")
        if kind not in ("weight", "bias") or stem == number or not (number.isascii() and number.isdecimal()):
            raise _error(path, f"holds a tensor {tensor.name!r:.80}, which is no head's")
        if len(number) > 4 or str(int(number)) != number:
            raise _error(path, f"holds a head behind layer {number!r:.80}")
        parts.setdefault(int(number), {})[kind] = tensor.to_float32()
    if any(len(both) != 2 for both in parts.values()):
        raise _error(path, "holds a head without its weights or its bias")
    return tuple(Head(layer, parts[layer]["weight"], parts[layer]["bias"]) for layer in sorted(parts))


def _text(value: object, path: Path, name: str) -> str:
    if not isinstance(value, str):
        raise _error(path, f'"{name}" must be text, not {brief(value)}')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _error(path, f'"{name}" holds half a surrogate pair') from None
    return value


def _texts(value: object, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_LABELS:
        raise _error(path, f'"labels" must be a list of at most {MAX_LABELS} texts, not {brief(value)}')
    return tuple(_text(one, path, "labels") for one in value)


def _number(value: object, path: Path, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise _error(path, f'"{name}" must be a number, not {brief(value)}')
    return float(value)


def _facts(value: object, path: Path) -> Mapping[str, float | str]:
    if not isinstance(value, dict) or len(value) > MAX_FACTS:
        raise _error(path, f'"facts" must be an object of at most {MAX_FACTS} figures and texts')
    return {
        name: _text(fact, path, name)[:MAX_FACT_CHARACTERS] if isinstance(fact, str) else _number(fact, path, name)
        for name, fact in value.items()
    }
