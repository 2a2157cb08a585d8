"""Gates as files: JSON that a person can read, and that may come from anybody."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miaotui.adaptive.cascade.asking import Asking
from miaotui.adaptive.cascade.gate import Gate
from miaotui.errors import GateError, InvalidRequestError, OutputError, brief
from miaotui.formats.json_file import strict_json

FORMAT, VERSION = "miaotui cascade gate", 1
MAX_BYTES = 4 << 20
MAX_MODELS, MAX_FACTS, MAX_FACT_CHARACTERS = 16, 64, 1000
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
    fields = _object(_parsed(path), FIELDS, path, "it")
    if fields["format"] != FORMAT or type(fields["version"]) is not int or fields["version"] != VERSION:
        raise _error(path, f"is not of format {FORMAT!r}, version {VERSION}")
    asking = _object(fields["asking"], ASKING_FIELDS, path, '"asking"')
    try:
        return Gate(
            signal=_text(fields["signal"], path, "signal"),
            threshold=None if fields["threshold"] is None else _number(fields["threshold"], path, "threshold"),
            models=_texts(fields["models"], path, "models", MAX_MODELS),
            asking=Asking(
                _text(asking["instruction"], path, "instruction"),
                _texts(asking["choices"], path, "choices", MAX_BYTES),
                asking["max_tokens"],
            ),
            floor=_number(fields["floor"], path, "floor"),
            confidence=_number(fields["confidence"], path, "confidence"),
            facts=_facts(fields["facts"], path),
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


def _object(value: object, names: set[str], path: Path, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise _error(path, f"{what} must be an object of {', '.join(sorted(names))}")
    return value


def _text(value: object, path: Path, name: str) -> str:
    if not isinstance(value, str):
        raise _error(path, f'"{name}" must be text, not {brief(value)}')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _error(path, f'"{name}" holds half a surrogate pair') from None
    return value


def _texts(value: object, path: Path, name: str, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise _error(path, f'"{name}" must be a list of at most {most} texts, not {brief(value)}')
    return tuple(_text(one, path, name) for one in value)


def _number(value: object, path: Path, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        raise _error(path, f'"{name}" must be a number, not {brief(value)}')
    return float(value)


def _facts(value: object, path: Path) -> Mapping[str, float | str]:
    if not isinstance(value, dict) or len(value) > MAX_FACTS:
        raise _error(path, f'"facts" must be an object of at most {MAX_FACTS} figures and texts')
    facts: dict[str, float | str] = {}
    for name, fact in value.items():
        facts[name] = (
            _text(fact, path, "facts")[:MAX_FACT_CHARACTERS] if isinstance(fact, str) else _number(fact, path, name)
        )
    return facts
