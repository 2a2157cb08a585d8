"""One model at one task: what it has right."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miaotui.compress.compare.candidate import OpenModel, Scored
from miaotui.compress.evaluate import extract
from miaotui.compress.evaluate.items import Item, Task
from miaotui.compress.intervals import wilson
from miaotui.errors import ContextLengthError, TaskFileError

AT_ONCE = 16
"""Questions that run together."""
SEARCH_S = 20.0
"""Regular expressions that take longer over all answers are refused."""

Step = Callable[[int, int], None]
"""Told how many of how many questions are done."""


@dataclass(frozen=True, slots=True)
class Solved:
    """Right or wrong, question by question. by_length: for choices, the same with log-likelihoods per byte of text.

    target_loss: for clozes, the mean nats a target costs; None elsewhere.
    """

    right: tuple[bool, ...]
    by_length: tuple[bool, ...] | None = None
    target_loss: float | None = None

    @property
    def accuracy(self) -> float:
        """Share of questions that are right."""
        return sum(self.right) / len(self.right)

    @property
    def interval(self) -> tuple[float, float]:
        """Its Wilson 95 % interval."""
        return wilson(self.accuracy, len(self.right))


def solve(model: OpenModel, task: Task, *, most_tokens: int, step: Step = lambda done, total: None) -> Solved:
    """Ask everything. most_tokens: of a written answer.

    Raises TaskFileError naming the line of a question that is too long for the model or whose regex takes too long.
    """
    right: list[bool] = []
    by_length: list[bool] = []
    losses: list[float] = []
    for start in range(0, len(task.items), AT_ONCE):
        items = task.items[start : start + AT_ONCE]
        try:
            if task.kind == "exact":
                right += _write(model, items, most_tokens)
            else:
                scored = _score(model, items)
                right += [_best(item, row) if task.kind == "choice" else row[0].is_greedy for item, row in
                          zip(items, scored, strict=True)]  # fmt: skip
                by_length += [_best(item, row, by_length=True) for item, row in zip(items, scored, strict=True)]
                losses += [-row[0].total for row in scored]
        except ContextLengthError as error:
            lines = f"lines {items[0].line} to {items[-1].line}"
            raise TaskFileError(f"task {task.name}, {lines}: a question is too long for the model: {error}") from None
        step(start + len(items), len(task.items))
    return Solved(
        tuple(right),
        tuple(by_length) if task.kind == "choice" else None,
        math.fsum(losses) / len(losses) if task.kind == "cloze" else None,
    )


def _score(model: OpenModel, items: Sequence[Item]) -> list[list[Scored]]:
    """Each item's endings. The first ones go first: the others find their questions read already."""
    contexts = [model.encode(item.context, special=True) for item in items]
    endings = [[model.encode(ending, special=False) for ending in item.endings] for item in items]
    firsts = model.score([(context, own[0]) for context, own in zip(contexts, endings, strict=True)])
    pairs = [(context, one) for context, own in zip(contexts, endings, strict=True) for one in own[1:]]
    others = iter(model.score(pairs) if pairs else [])
    return [[first, *(next(others) for _ in own[1:])] for first, own in zip(firsts, endings, strict=True)]


def _best(item: Item, scored: Sequence[Scored], *, by_length: bool = False) -> bool:
    """Whether the right ending is the likeliest, by itself or per byte; the first of equals counts."""
    lengths = [len(ending.strip().encode()) if by_length else 1 for ending in item.endings]
    values = [one.total / length for one, length in zip(scored, lengths, strict=True)]
    return values.index(max(values)) == item.right


def _write(model: OpenModel, items: Sequence[Item], most_tokens: int) -> list[bool]:
    written = model.write([model.ask(item.context) for item in items], most=most_tokens)
    texts: list[str | None] = [one.text for one in written]
    asked = [at for at, item in enumerate(items) if item.regex is not None]
    found = _search([(items[at], texts[at] or "") for at in asked]) if asked else []
    for at, text in zip(asked, found, strict=True):
        texts[at] = text
    return [text is not None and plain(text) == plain(item.answer) for text, item in zip(texts, items, strict=True)]


def plain(text: str) -> str:
    """Text as answers are compared: without case, quotes around it, a full stop at its end, and further spaces."""
    return re.sub(r"\s+", " ", text).strip().strip("\"'“”").removesuffix(".").strip().casefold()


def _search(pairs: Sequence[tuple[Item, str]]) -> list[str | None]:
    """What each item's regex finds in its text; in a process that is ended when that takes too long."""
    asked = json.dumps([[item.regex, text] for item, text in pairs])
    command = [sys.executable, "-I", str(Path(extract.__file__))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as process:  # noqa: S603 (our own file)
        try:
            out, _ = process.communicate(asked, timeout=SEARCH_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    lines = out.splitlines()
    if len(lines) < len(pairs):
        item = pairs[len(lines)][0]
        raise TaskFileError(
            f'line {item.line}: "regex" takes more than {SEARCH_S:.0f} s; write it without repetitions inside of '
            f"repetitions: {item.regex!r:.100}"
        )
    return [json.loads(line) for line in lines]
