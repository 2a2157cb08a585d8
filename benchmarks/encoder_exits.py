"""What leaving an encoder early saves: accuracy, layers and texts a second, beside the whole depth and fixed depths.

usage: encoder_exits.py [--floor F …] [--confidence P] [--rounds N] [--single N] [--out FILE.json] MODEL

Exits are trained on SST-2's training sentences (sst2-train.tsv) and measured on its development set (sst2-dev.tsv).
Both ways take turns over the same texts, all of them together and one by one; times are good for their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import data_file, machine_facts, resolve, write_record
from miaotui import Embedder
from miaotui.adaptive.exits import EarlyClassifier, Learned, evaluate, learn
from miaotui.compress.intervals import wilson
from miaotui.engine.cut_encoder import CutEncoder

Rows = list[tuple[str, str]]


def rows_of(name: str) -> Rows:
    """Texts and labels."""
    lines = data_file(name).read_text("utf-8").splitlines()
    return [(text, label) for text, _, label in (line.rpartition("\t") for line in lines) if text]


def by_layer(embedder: Embedder, learned: Learned, rows: Rows) -> list[dict[str, Any]]:
    """Accuracy of every head alone: of a model that always ends there."""
    ids = embedder.encode([text for text, _ in rows], truncate=True)
    wanted = np.array([learned.labels.index(label) for _, label in rows])
    right = np.zeros((len(learned.heads), len(rows)), bool)

    def look(exit: int, numbers: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        right[exit, numbers] = learned.heads[exit].scores(vectors).argmax(axis=1) == wanted[numbers]
        return np.zeros(len(numbers), bool)

    CutEncoder(embedder, [head.layer for head in learned.heads[:-1]]).walk(ids, look)
    shares = right.mean(axis=1).tolist()
    return [
        {"layers": head.layer, "accuracy": share, "interval": wilson(share, len(rows))}
        for head, share in zip(learned.heads, shares, strict=True)
    ]


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns; the first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in sorted(ways, reverse=number % 2 == 1):
            start_s = time.perf_counter()
            ways[name]()
            if number:
                seconds[name].append(time.perf_counter() - start_s)
    return seconds


def speed(seconds: dict[str, list[float]], count: int) -> dict[str, Any]:
    """Texts a second of both ways, and how many times as fast it is to leave early: median, least and most."""
    ratios = [whole / early for whole, early in zip(seconds["whole"], seconds["early"], strict=True)]
    rates = {name: count / statistics.median(some) for name, some in seconds.items()}
    return {**rates, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def measure(
    embedder: Embedder, learned: Learned, test: Rows, floor: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One floor: exits, what they do on the test rows, and how fast."""
    trained = learned.trained(floor, arguments.confidence)
    classifier = EarlyClassifier(embedder, trained.exits)
    outcome = evaluate(classifier, test, truncate=True)
    ids = embedder.encode([text for text, _ in test], truncate=True)
    together = in_turns(
        {
            "whole": lambda: classifier.classify_ids(ids, whole=True),
            "early": lambda: classifier.classify_ids(ids),
        },
        arguments.rounds,
    )
    some = ids[: arguments.single]
    alone = in_turns(
        {
            "whole": lambda: [classifier.classify_ids([one], whole=True) for one in some],
            "early": lambda: [classifier.classify_ids([one]) for one in some],
        },
        arguments.rounds,
    )
    return {
        "floor": floor,
        "calibration": trained.calibration.facts(),
        "test": outcome.facts(),
        "together": speed(together, len(ids)),
        "alone": speed(alone, len(some)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="minilm")
    parser.add_argument("--floor", type=float, nargs="+", default=[0.99, 0.98, 0.95])
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--single", type=int, default=200, help="texts that are also classified one by one")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows, test = rows_of("sst2-train.tsv"), rows_of("sst2-dev.tsv")
    with Embedder(resolve(arguments.model)) as embedder:
        learned = learn(embedder, rows, truncate=True)
        document: dict[str, Any] = {"machine": machine_facts(), "model": embedder.spec.name, "rows": len(rows)}
        document["layers"] = by_layer(embedder, learned, test)
        print(json.dumps(document["layers"]), flush=True)
        document["floors"] = []
        for floor in arguments.floor:
            document["floors"].append(measure(embedder, learned, test, floor, arguments))
            print(json.dumps(document["floors"][-1], indent=1), flush=True)
    if arguments.out:
        write_record(document, arguments.out)


if __name__ == "__main__":
    main()
