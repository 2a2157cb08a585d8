"""Traces of real services: Azure's CSV and Mooncake's JSON lines, recognised by what is in the file."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from miaotui.errors import TraceError, brief
from miaotui.load.shapes import Demand, Shape

MAX_BYTES = 256 << 20
MAX_TOKENS = 10_000_000
MAX_MS = 1e15
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_BLOCK_TOKENS = 512
"""Tokens of a block in Mooncake's `hash_ids` (Mooncake, FAST 2025, trace release)."""


def read_trace(path: Path) -> Demand:
    """The requests of a trace file in the order they came. Raises TraceError naming the line that is wrong."""
    text = _text_of(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.startswith("{"):
        kind, found = "Mooncake", list(_mooncake(text.splitlines(), path))
    elif tuple(column.strip() for column in first.split(",")) == AZURE_COLUMNS:
        kind, found = "Azure", list(_azure(text.splitlines(), path))
    else:
        raise TraceError(
            f"{path} is no trace that is known here: it should begin with {','.join(AZURE_COLUMNS)} (Azure's CSV) or "
            f'{{"timestamp": … (Mooncake\'s JSON lines), plain or gzipped, not with {brief(first)}.'
        )
    if not found:
        raise TraceError(f"{path} holds no requests.")
    return _demand(f"{kind} trace {path.name}", found)


def _demand(name: str, found: list[tuple[float, Shape]]) -> Demand:
    found.sort(key=lambda pair: pair[0])
    start_s = found[0][0]
    shapes = [_at(shape, arrival_s - start_s) for arrival_s, shape in found]
    return Demand(name, lambda: iter(shapes), len(shapes), has_arrivals=True)


def _at(shape: Shape, arrival_s: float) -> Shape:
    return Shape(shape.prompt_tokens, shape.output_tokens, arrival_s, shape.blocks, shape.block_tokens)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TraceError(f"{path} is longer than {MAX_BYTES >> 20} MiB; cut it to the part that is to be replayed.")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"cannot read the trace {path}: {getattr(error, 'strerror', None) or error}.") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path} is not text, so it is no trace.") from None


def _azure(lines: Iterable[str], path: Path) -> Iterator[tuple[float, Shape]]:
    rows = csv.reader(lines)
    for row in rows:
        if not any(cell.strip() for cell in row) or row[0].strip() == AZURE_COLUMNS[0]:
            continue
        where = f"{path}, line {rows.line_num}"
        if len(row) != len(AZURE_COLUMNS):
            raise TraceError(f"{where}: there should be {len(AZURE_COLUMNS)} columns, not {len(row)}.")
        try:
            arrival_s = datetime.fromisoformat(row[0].strip()).timestamp()
        except (ValueError, OverflowError):
            raise TraceError(f"{where}: {brief(row[0])} is no date and time.") from None
        yield arrival_s, Shape(_tokens(row[1], "ContextTokens", where), _tokens(row[2], "GeneratedTokens", where))


def _mooncake(lines: Iterable[str], path: Path) -> Iterator[tuple[float, Shape]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise TraceError(f"{where} is not JSON: {brief(line)}.") from None
        if not isinstance(row, dict):
            raise TraceError(f"{where} should be an object, not {brief(row)}.")
        yield _milliseconds(row.get("timestamp"), where) / 1e3, _mooncake_shape(row, where)


def _mooncake_shape(row: dict[str, Any], where: str) -> Shape:
    blocks = row.get("hash_ids", [])
    if not isinstance(blocks, list) or not all(isinstance(block, int) for block in blocks):
        raise TraceError(f"{where}: hash_ids should be a list of whole numbers, not {brief(blocks)}.")
    prompt_tokens = _tokens(row.get("input_length"), "input_length", where)
    output_tokens = _tokens(row.get("output_length"), "output_length", where)
    return Shape(prompt_tokens, output_tokens, None, tuple(blocks), MOONCAKE_BLOCK_TOKENS)


def _milliseconds(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_MS:
        raise TraceError(f"{where}: timestamp should be milliseconds from 0, not {brief(value)}.")
    return float(value)


def _tokens(value: object, name: str, where: str) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_TOKENS:
        raise TraceError(f"{where}: {name} should be a whole number from 1 to {MAX_TOKENS}, not {brief(value)}.")
    return value
