"""Questions and answers that people wrote: read from a file, written to one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

from miaotui.answers.cache import AnswerCache
from miaotui.answers.cases import case_key
from miaotui.answers.control import read_tags
from miaotui.answers.entry import CURATED, Entry, curated, entry_of
from miaotui.answers.store import Filter
from miaotui.errors import InvalidRequestError

MAX_FILE_BYTES = 256 << 20
MAX_QUESTION = 8 << 10
MAX_ANSWER = 256 << 10
BATCH = 256


def read_pairs(path: Path, tenant: str, *, tags: Iterable[str] = ()) -> list[Entry]:
    """The answers of a CSV file (columns question, answer, perhaps tags with commas) or a JSONL one (the same fields).

    Raises InvalidRequestError naming the line for whatever cannot be used; nothing is left out silently.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidRequestError(f"{path} must end in .csv or .jsonl.")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidRequestError(f"{path} is longer than {MAX_FILE_BYTES >> 20} MiB; split it.")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InvalidRequestError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from None
    found: dict[bytes, Entry] = {}
    lines: dict[bytes, int] = {}
    for number, fields in reader(text, path):
        entry = _entry(fields, tenant, tuple(tags), f"{path}, line {number}")
        if entry.key in found and found[entry.key].answer != entry.answer:
            raise InvalidRequestError(
                f"{path}, line {number}: the question of line {lines[entry.key]} has another answer here; keep one."
            )
        found[entry.key], lines[entry.key] = entry, number
    return list(found.values())


async def import_pairs(cache: AnswerCache, entries: list[Entry]) -> list[Entry]:
    """Keep them, in place of those with the same questions; those left out because they were rejected before.

    Raises StoreError where the last store is down.
    """
    tenants = {entry.tenant for entry in entries}
    cases = {row.key for tenant in tenants async for row in cache.each_row(Filter("case", tenant))}
    rejected = [entry for entry in entries if case_key(entry.key, entry.answer) in cases]
    kept = [entry for entry in entries if case_key(entry.key, entry.answer) not in cases]
    for first in range(0, len(kept), BATCH):
        await cache.put_now([entry.row() for entry in kept[first : first + BATCH]])
    return rejected


async def all_answers(cache: AnswerCache, tenant: str | None, *, only_curated: bool = False) -> AsyncIterator[Entry]:
    """Every kept answer, newest first. Raises StoreError."""
    async for row in cache.each_row(Filter("answer", tenant, group=CURATED if only_curated else None)):
        yield entry_of(row)


def exported(entry: Entry) -> dict[str, Any]:
    """As a line of JSONL that `read_pairs` reads."""
    return {
        "question": entry.question,
        "answer": entry.answer,
        "tags": list(entry.tags),
        "origin": entry.origin,
        "created_s": entry.created_s,
        "model": entry.model,
    }


def _entry(fields: dict[str, Any], tenant: str, tags: tuple[str, ...], where: str) -> Entry:
    question, answer, own = fields.get("question"), fields.get("answer"), fields.get("tags")
    if isinstance(own, str):
        own = [part.strip() for part in own.split(",") if part.strip()]
    for name, value, most in (("question", question, MAX_QUESTION), ("answer", answer, MAX_ANSWER)):
        if not isinstance(value, str) or not value.strip():
            raise InvalidRequestError(f"{where}: there is no {name}.")
        if len(value) > most:
            raise InvalidRequestError(f"{where}: the {name} is longer than {most} characters.")
    try:
        all_tags = read_tags([*(own or ()), *tags])
    except (InvalidRequestError, TypeError) as error:
        raise InvalidRequestError(f"{where}: {error}") from None
    return curated(tenant, str(question).strip(), str(answer).strip(), tags=all_tags)


def _csv(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        if not {"question", "answer"} <= set(names):
            raise InvalidRequestError(f"{path} must begin with a line that names the columns question and answer.")
        rows.fieldnames = names
        for fields in rows:
            yield rows.line_num, fields
    except csv.Error as error:
        raise InvalidRequestError(f"{path}, line {rows.line_num}: {error}.") from None


def _jsonl(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{path}, line {number}: {error}.") from None
        if not isinstance(fields, dict):
            raise InvalidRequestError(f"{path}, line {number} is no object.")
        yield number, fields
