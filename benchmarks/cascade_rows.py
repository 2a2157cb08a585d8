"""Labelled tasks for `cascade.py`, and what both models said to each row, kept line by line so that it can go on."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common import data_file
from miaotui.adaptive.cascade.asking import Asking
from miaotui.adaptive.cascade.case import Case, Labelled

SEED = 7


@dataclass(frozen=True, slots=True)
class Task:
    """calibration, test: rows in an order drawn once, the same each time."""

    asking: Asking
    calibration: list[Labelled]
    test: list[Labelled]


def sst2() -> Task:
    """Sentences of film reviews; the test rows are the development set, which nothing else is taken from."""
    asking = Asking(
        "Is the sentiment of this film review positive or negative? Answer with one word.", ("positive", "negative")
    )
    names = ("negative", "positive")
    parts = []
    for file in ("sst2-train.tsv", "sst2-dev.tsv"):
        lines = data_file(file).read_text("utf-8").splitlines()
        rows = [Labelled(text, names[int(label)]) for text, _, label in (line.rpartition("\t") for line in lines)]
        random.Random(SEED).shuffle(rows)
        parts.append(rows)
    return Task(asking, *parts)


def pairs() -> Task:
    """Questions from Quora: do two of them mean the same? A multiple choice of two answers."""
    asking = Asking(
        "Do these two questions ask for the same thing?\nA. They ask for the same thing.\nB. They ask for different "
        "things.\nAnswer with A or B.",
        ("A", "B"),
    )
    rows = []
    with gzip.open(data_file("question_pairs.jsonl.gz"), "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            rows += [Labelled(f"1: {row['text_a']}\n2: {row['text_b']}", "A" if row["label"] else "B")]
    random.Random(SEED).shuffle(rows)
    return Task(asking, rows[3000:], rows[:3000])


TASKS = {"sst2": sst2, "pairs": pairs}


def keep(file: Path, split: str, number: int, case: Case) -> None:
    """Add a row's outcome to the work file."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"split": split, "row": number, **asdict(case)}) + "\n")


def kept(file: Path) -> Iterator[tuple[str, int, Case]]:
    """What the work file holds; a last line that was cut off is left out."""
    if not file.exists():
        return
    for line in file.read_text("utf-8").splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        yield fields.pop("split"), fields.pop("row"), Case(**fields)
