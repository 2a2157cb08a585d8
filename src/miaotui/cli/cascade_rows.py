"""Labelled rows for a cascade: JSON lines, or texts and labels with a tab between them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.errors import brief

if TYPE_CHECKING:
    from miaotui.adaptive.cascade.case import Labelled
    from miaotui.compress.evaluate.lines import LineReader

MAX_ROWS, MAX_CHARACTERS, MAX_MESSAGES = 100_000, 1 << 20, 256
SEED = 0


def read_rows(path: Path, choices: Sequence[str], *, teacher: bool) -> list[Labelled]:
    """All rows, in an order drawn once and for all.

    choices: an answer must be one of these, or its number from 0 on. teacher: whether answers are left out, for the
    large model's are taken. Raises TaskFileError naming line and field.
    """
    from miaotui.adaptive.cascade.case import Labelled
    from miaotui.compress.evaluate.lines import LineReader, read_text

    reader = LineReader(path, MAX_ROWS)
    text = read_text(path, "labelled rows")
    lines = _objects(reader, text) if path.suffix in (".jsonl", ".json", ".ndjson") else _columns(reader, text, teacher)
    rows = []
    for number, given, answer in lines:
        wanted = None if teacher else _wanted(reader, number, answer, choices)
        rows.append(Labelled(given, wanted))
    random.Random(SEED).shuffle(rows)  # noqa: S311 (files are sorted more often than not)
    return rows


def _objects(reader: LineReader, text: str) -> Iterator[tuple[int, Any, object]]:
    for number, fields in reader.objects(text):
        answer = fields.get("answer", fields.get("label"))
        if "messages" in fields:
            yield number, _messages(reader, number, fields["messages"]), answer
        else:
            name = "prompt" if "prompt" in fields else "text"
            yield number, reader.text(number, fields.get(name), name, MAX_CHARACTERS), answer


def _messages(reader: LineReader, number: int, given: object) -> list[dict[str, str]]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_MESSAGES:
        raise reader.error(number, f'"messages" must be a list of 1 to {MAX_MESSAGES} objects, not {brief(given)}.')
    for at, message in enumerate(given):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise reader.error(number, f"messages[{at}] must be an object with a role and content.")
        reader.text(number, message.get("content"), f"messages[{at}].content", MAX_CHARACTERS)
    return given


def _columns(reader: LineReader, text: str, teacher: bool) -> Iterator[tuple[int, str, object]]:
    for number, line in reader.lines(text):
        given, tab, answer = line.rstrip("\r").rpartition("\t")
        if not tab and not teacher:
            raise reader.error(number, "there is no tab; write a text, a tab and the right answer, or give --teacher.")
        yield number, reader.text(number, given if tab else answer, "text", MAX_CHARACTERS), answer


def _wanted(reader: LineReader, number: int, answer: object, choices: Sequence[str]) -> str:
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if answer is None:
        raise reader.error(number, 'there is no "answer"; add it, or give --teacher to take the large model\'s.')
    wanted = reader.text(number, answer, "answer", MAX_CHARACTERS).strip()
    if not choices or wanted in choices:
        return wanted
    if wanted.isdecimal() and len(wanted) < 5 and int(wanted) < len(choices):
        return choices[int(wanted)]
    raise reader.error(number, f'"answer" must be one of {brief(list(choices))} or its number, not {brief(wanted)}.')
