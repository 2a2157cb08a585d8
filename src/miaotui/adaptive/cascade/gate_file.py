"""Gates as files: JSON that a person can read, and that may come from anybody."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from miaotui.adaptive.cascade.asking import Asking
from miaotui.adaptive.cascade.gate import Gate
from miaotui.adaptive.told_fields import ToldFields
from miaotui.errors import GateError, InvalidRequestError, OutputError
from miaotui.formats.json_file import strict_json

FORMAT, VERSION = "miaotui cascade gate", 1
MAX_BYTES = 4 << 20
MAX_MODELS = 16
FIELDS = {"format", "version", "signal", "threshold", "models", "asking", "floor", "confidence", "facts"}
ASKING_FIELDS = {"instruction", "choices", "max_tokens"}


def save_gate(gate: Gate, path: Path) -> None:
    """Write the file whole or not at all. Raises OutputError."""
    asking = gate.asking
    content = {
        "format": FORMAT,
        "version": VERSION,
        "signal": gate.signal,
        "threshold": gate.threshold,
        "floor": gate.floor,
        "confidence": gate.confidence,
        "models": list(gate.models),
        "asking": {
            "instruction": asking.instruction,
            "choices": list(asking.choices),
            "max_tokens": asking.max_tokens,
        },
        "facts": dict(gate.facts),
    }
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n", "utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); write elsewhere.") from None


def load_gate(path: Path) -> Gate:
    """Raises GateError for a file that cannot be read, or is no gate."""
    told = ToldFields(partial(_error, path))
    fields = told.fields(_parsed(path), FIELDS, "it")
    told.version(fields, FORMAT, VERSION)
    asking = told.fields(fields["asking"], ASKING_FIELDS, '"asking"')
    try:
        return Gate(
            signal=told.text(fields["signal"], "signal"),
            threshold=None if fields["threshold"] is None else told.number(fields["threshold"], "threshold"),
            models=told.texts(fields["models"], "models", MAX_MODELS),
            asking=Asking(
                told.text(asking["instruction"], "instruction"),
                told.texts(asking["choices"], "choices", MAX_BYTES),
                asking["max_tokens"],
            ),
            floor=told.number(fields["floor"], "floor"),
            confidence=told.number(fields["confidence"], "confidence"),
            facts=told.facts(fields["facts"]),
        )
    except (GateError, InvalidRequestError) as error:
        raise GateError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def _parsed(path: Path) -> object:
    if not path.is_file():  # a pipe would be waited for
        raise _error(path, "is no file")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise _error(path, f"is longer than {MAX_BYTES >> 20} MiB")
    try:
        return strict_json(content)
    except (ValueError, RecursionError) as error:
        raise _error(path, f"is not JSON ({error!s:.100})") from None


def _error(path: Path, problem: str) -> GateError:
    return GateError(f"{path}: {problem}; give a file that `miaotui cascade calibrate` wrote.")
