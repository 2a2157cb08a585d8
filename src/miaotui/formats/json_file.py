"""JSON from strangers: bounded in size and nesting, without duplicate keys, NaN or infinities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from miaotui.errors import ModelFileError, ModelNotFoundError

MAX_CONTAINERS = 200_000  # objects and arrays; each costs 60 to 300 bytes of memory once parsed


def read_json_object(path: Path, max_bytes: int) -> dict[str, object]:
    """The object in the file `path`.

    Raises ModelNotFoundError when the file is missing, ModelFileError when it is longer than `max_bytes` or damaged.
    """
    if not path.is_file():  # opening a FIFO would wait for ever
        raise ModelNotFoundError(f"{path}: no such file; the model folder is incomplete, download it again.")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error}).") from None
    if len(content) > max_bytes:
        raise ModelFileError(f"{path}: is longer than {max_bytes} bytes; this is not a model's file.")
    return parse_object(content, str(path))


def parse_object(content: bytes, source: str) -> dict[str, object]:
    """The JSON object in `content`; raises ModelFileError that begins with `source`."""
    if content.count(b"{") + content.count(b"[") > MAX_CONTAINERS:
        raise ModelFileError(
            f"{source}: holds more than {MAX_CONTAINERS} objects and lists; this is not a model's file."
        )
    try:
        value = strict_json(content)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{source}: is not valid JSON ({error}); download it again.") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{source}: must be a JSON object; download it again.")
    return value


def strict_json(content: bytes) -> object:
    """What JSON in UTF-8 holds. Raises ValueError for duplicate keys, NaN and infinities, too, and RecursionError."""
    value: object = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
