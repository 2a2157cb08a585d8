"""Prompts from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from miaotui.errors import InvalidRequestError

Prompt = str | Sequence[Mapping[str, Any]]

MAX_BYTES = 256 << 20
_FORMS = '{"prompt": "…"}, {"messages": [{"role": "user", "content": "…"}]}, {"turns": ["…"]} or "…"'


def read_prompts(path: Path) -> list[Prompt]:
    """One prompt, conversation or question a line; of "turns", each is a prompt.

    Raises InvalidRequestError for a file that cannot be read, and for the first line that is none of these.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequestError(f"{path}: is larger than {MAX_BYTES >> 20} MB; give fewer prompts.")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InvalidRequestError(f"{path}: cannot be read ({error}); give a file of JSON lines.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path}: is not UTF-8 (byte {error.start}); convert it first.") from None
    lines = text.split("\n")  # not splitlines, which also splits at characters that JSON strings may hold
    return [p for number, line in enumerate(lines, 1) if line.strip() for p in _prompts(line, f"{path}: line {number}")]


def _prompts(line: str, where: str) -> Iterator[Prompt]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where} is not JSON ({error}); write {_FORMS}.") from None
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("messages", "turns", "prompt", "question", "text") if key in value), None)
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        yield from value
    elif isinstance(value, list) and value and all(_is_message(part) for part in value):
        yield value
    else:
        raise InvalidRequestError(f"{where} is no prompt; write {_FORMS}.")


def _is_message(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("role"), str) and isinstance(part.get("content"), str)
