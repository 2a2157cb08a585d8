"""Exits as files that may come from anybody: safetensors, with all but the heads as JSON among the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.exits.exits import MAX_LABELS, Exits
from miaotui.adaptive.exits.head import Head
from miaotui.adaptive.told_fields import ToldFields
from miaotui.core import Activations
from miaotui.errors import ExitsError, ModelFileError, ModelNotFoundError, UnsupportedModelError
from miaotui.formats.json_file import strict_json
from miaotui.formats.safetensors import read_metadata, read_tensors
from miaotui.formats.safetensors_write import write_safetensors
from miaotui.formats.weights import MappedFile, Tensor

FORMAT, VERSION, KEY = "miaotui exits", 1, "miaotui.exits"
MAX_BYTES = 256 << 20
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
    told = ToldFields(partial(_error, path))
    try:
        file = MappedFile(path)
        if file.size > MAX_BYTES:
            raise _error(path, f"is longer than {MAX_BYTES >> 20} MiB")
        fields = _fields(read_metadata(file).get(KEY), path)
        heads = _heads(read_tensors(file), path)
        return Exits(
            labels=told.texts(fields["labels"], "labels", MAX_LABELS),
            heads=heads,
            threshold=None if fields["threshold"] is None else told.number(fields["threshold"], "threshold"),
            model=told.text(fields["model"], "model"),
            activations=cast(Activations, told.text(fields["activations"], "activations")),
            floor=told.number(fields["floor"], "floor"),
            confidence=told.number(fields["confidence"], "confidence"),
            facts=told.facts(fields["facts"]),
        )
    except ExitsError as error:
        names_file = str(error).startswith(str(path))
        raise error if names_file else _error(path, str(error).removesuffix("; train the exits anew.")) from None
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
    told = ToldFields(partial(_error, path))
    found = told.fields(fields, FIELDS, repr(KEY))
    told.version(found, FORMAT, VERSION)
    return found


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
