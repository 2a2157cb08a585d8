"""Tasks from JSON lines: multiple choice, the last word, or an answer that must be exact.

One object a line, all of a file of one kind:

    {"question": "Which planet is the largest?", "choices": ["Mars", "Jupiter"], "answer": 1}
    {"text": "She opened the umbrella because of the rain"}      or      {"text": "… because of the", "target": "rain"}
    {"prompt": "What is 3 times 14?", "answer": "42", "regex": "(\\d+)"}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from miaotui.compress.evaluate.lines import LineReader, read_text
from miaotui.errors import brief

MAX_ITEMS = 100_000
MAX_CHARACTERS = 1 << 20
MAX_CHOICES = 64
MAX_REGEX_CHARACTERS = 200
FIRST_UNSPACED = "\u2e80"
"""From here on characters are mostly of scripts that put no spaces between words."""

Kind = Literal["choice", "cloze", "exact"]
KINDS: dict[Kind, str] = {
    "choice": "multiple choice by log-likelihood",
    "cloze": "the next word, as the most likely tokens",
    "exact": "an answer that must be exact",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One question. line: where it stands in the file.

    choice: `endings` are the choices as they come behind `context`, `right` is the index of the right one.
    cloze: the only ending is the right one. exact: `context` is the question, `answer` what must come out of what is
    written, by way of the first match of `regex` if there is one.
    """

    line: int
    context: str
    endings: tuple[str, ...] = ()
    right: int = 0
    answer: str = ""
    regex: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A file's questions, all of one kind."""

    name: str
    kind: Kind
    items: tuple[Item, ...]


def read_task(path: Path, limit: int | None = None) -> Task:
    """The first `limit` questions of a file, or all. Raises TaskFileError naming line and field."""
    reader = LineReader(path, MAX_ITEMS)
    items: list[Item] = []
    kind: Kind | None = None
    for number, fields in reader.objects(read_text(path)):
        own = _kind_of(reader, number, fields)
        if kind is not None and own != kind:
            raise reader.error(number, f"is {KINDS[own]}, but those before are {KINDS[kind]}; put them into two files.")
        kind = own
        items.append({"choice": _choice, "cloze": _cloze, "exact": _exact}[own](reader, number, fields))
        if len(items) == limit:
            break
    assert kind is not None  # a file without lines was refused  # noqa: S101
    return Task(path.stem, kind, tuple(items))


def _kind_of(reader: LineReader, number: int, fields: dict[str, Any]) -> Kind:
    if "choices" in fields:
        return "choice"
    if "text" in fields:
        return "cloze"
    if "prompt" in fields:
        return "exact"
    found = f"only {', '.join(map(brief, list(fields)[:5]))}" if fields else "nothing"
    raise reader.error(
        number,
        f'there is {found}; give "question", "choices" and "answer", or "text" with or without "target", or "prompt" '
        'and "answer".',
    )


def _choice(reader: LineReader, number: int, fields: dict[str, Any]) -> Item:
    question = reader.text(number, fields.get("question"), "question", MAX_CHARACTERS)
    given = fields["choices"]
    if not isinstance(given, list) or not 2 <= len(given) <= MAX_CHOICES:
        raise reader.error(number, f'"choices" must be a list of 2 to {MAX_CHOICES} texts, not {brief(given)}.')
    choices = [reader.text(number, choice, f"choices[{at}]", MAX_CHARACTERS) for at, choice in enumerate(given)]
    context = f"Question: {question}\nAnswer:"
    endings = tuple(spaced(context, choice) for choice in choices)
    return Item(number, context, endings, _right(reader, number, fields.get("answer"), choices))


def _right(reader: LineReader, number: int, answer: object, choices: list[str]) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if isinstance(answer, str):
        if choices.count(answer) == 1:
            return choices.index(answer)
        letter = ord(answer.upper()) - ord("A") if len(answer) == 1 and answer.isascii() else -1
        if answer not in choices and 0 <= letter < len(choices):
            return letter
    raise reader.error(
        number,
        f'"answer" must be the right choice: its number from 0 to {len(choices) - 1}, its letter, or its text as it '
        f"stands among them once; not {brief(answer)}.",
    )


def _cloze(reader: LineReader, number: int, fields: dict[str, Any]) -> Item:
    text = reader.text(number, fields["text"], "text", MAX_CHARACTERS)
    if "target" in fields:
        target = reader.text(number, fields["target"], "target", MAX_CHARACTERS)
        return Item(number, text, (spaced(text, target),))
    before, space, word = text.rstrip().rpartition(" ")
    if not before.strip():
        raise reader.error(number, '"text" has one word only; the last of several is asked for, or give a "target".')
    return Item(number, before, (space + word,))


def _exact(reader: LineReader, number: int, fields: dict[str, Any]) -> Item:
    prompt = reader.text(number, fields["prompt"], "prompt", MAX_CHARACTERS)
    given = fields.get("answer")
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = str(given)
    answer = reader.text(number, given, "answer", MAX_CHARACTERS)
    regex = fields.get("regex")
    if regex is not None:
        import re

        regex = reader.text(number, regex, "regex", MAX_REGEX_CHARACTERS)
        try:
            re.compile(regex)
        except (re.error, RecursionError, OverflowError) as error:
            raise reader.error(number, f'"regex" cannot be used: {error}.') from None
    return Item(number, prompt, answer=answer, regex=regex)


def spaced(before: str, behind: str) -> str:
    """What comes behind, with a space in front where words are written apart and there is none yet."""
    joined = before[-1:].isspace() or behind[:1].isspace()
    unspaced = before[-1:] >= FIRST_UNSPACED or behind[:1] >= FIRST_UNSPACED
    return behind if joined or unspaced else " " + behind
