"""Builds of the native library beside each other, on the same steps of one model.

usage: kernels.py [--rounds N] [--activations int16|int8] [--model MODEL] [--out FILE.json] OLD_SRC NEW_SRC …
A source is a folder that holds the package `miaotui` with its native library built (src/ of a checkout); each has a
process of its own, which loads the model (default: smollm2:135m). They take turns step by step, in an order that turns
from round to round: the machine may be slower a second later. A step is the native call alone. What the autotuner would
choose is left at its defaults, and packed weights are kept nowhere, so that the builds share nothing.

Printed for every shape of step and source: median ms (quartiles), how many times as long as the first source's step of
the same round takes (quartiles), ns for a tile of 16×32 weights and a token, and GOPS of int8 products, of which 16-bit
activations take two, beside what this machine was just measured to do at most. Both take the whole step's time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import commit_of, figure, machine_facts, resolve, write_record
from workers import Worker, WorkerDied

OPERATIONS_PER_TILE = 2 * 16 * 32
INT8_PRODUCTS = {"int16": 2, "int8": 1}


@dataclass(frozen=True)
class Shape:
    """A step: so many sequences that decode one token each, and a prompt's tokens beside them."""

    answers: int
    prompt_tokens: int = 0

    @property
    def name(self) -> str:
        parts = [f"{self.answers} × 1 token"] if self.answers else []
        return " + ".join([*parts, f"prompt of {self.prompt_tokens}"] if self.prompt_tokens else parts)

    def num_tiles(self, tiles: dict[str, float]) -> float:
        """Tiles times tokens: the head, and what leads only to it, are multiplied with the last of each sequence."""
        rows = {"tokens": self.answers + self.prompt_tokens, "logits": self.answers + bool(self.prompt_tokens)}
        return sum(tiles[name] * count for name, count in rows.items())


SHAPES = (
    *(Shape(answers) for answers in (1, 2, 3, 4, 7, 8, 16)),
    Shape(0, 64),
    Shape(0, 256),
    Shape(16, 64),
)


class Build(Worker):
    """One source, with the model loaded. Raises WorkerDied."""

    def __init__(self, source: Path, model: Path, activations: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("kernels_worker.py")), str(model), activations]
        super().__init__(command, {**os.environ, "PYTHONPATH": str(source)})
        self.commit = commit_of(source)
        if not Path(self.facts["library"]).is_relative_to(source):
            self.close()
            sys.exit(f"{source} holds no miaotui with its native library built; {self.facts['library']} was found.")

    def step_s(self, shape: Shape) -> float:
        return float(self.ask([shape.answers, shape.prompt_tokens]))


def measure(builds: Sequence[Build], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every step: {shape: [a list for each build]}. The first round only warms up."""
    seconds: dict[str, list[list[float]]] = {shape.name: [[] for _ in builds] for shape in SHAPES}
    for number in range(rounds + 1):
        for shape in SHAPES:
            taken = list(zip(builds, seconds[shape.name], strict=True))
            for build, kept in taken if number % 2 else taken[::-1]:
                step_s = build.step_s(shape)
                if number:
                    kept.append(step_s)
    return seconds


def quartiles(samples: Sequence[float], digits: int) -> str:
    """Median (quartiles)."""
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [*samples] * 3
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def report(shape: Shape, seconds: Sequence[Sequence[float]], tiles: dict[str, float], products: int) -> list[Any]:
    """What one shape took each build."""
    num_tiles = shape.num_tiles(tiles)
    return [
        {
            "step_s": figure(own),
            "times_the_first": figure([one / first for one, first in zip(own, seconds[0], strict=True)]),
            "ns_per_tile_and_token": statistics.median(own) / num_tiles * 1e9,
            "gops": num_tiles * OPERATIONS_PER_TILE * products / statistics.median(own) / 1e9,
        }
        for own in seconds
    ]


def show(name: str, found: Sequence[dict[str, Any]], ceiling: float) -> None:
    for number, of in enumerate(found):
        ratio = quartiles(of["times_the_first"]["samples"], 3) if number else ""
        milliseconds = quartiles([1e3 * one for one in of["step_s"]["samples"]], 2)
        cells = [name, str(number), milliseconds, ratio, f"{of['ns_per_tile_and_token']:.2f}"]
        cells.append(f"{of['gops']:.0f} = {of['gops'] / ceiling:.0%}")
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, metavar="SRC")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--activations", default="int16", choices=list(INT8_PRODUCTS))
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    try:
        builds = [Build(source.resolve(), model, arguments.activations) for source in arguments.sources]
        seconds = measure(builds, arguments.rounds)
    except WorkerDied:
        sys.exit("a build cannot go on; its message is above.")
    for build in builds:
        build.close()
    ceiling = max(build.facts["ceilings"]["int8_gops"] for build in builds)  # what disturbs it only lowers it
    for number, build in enumerate(builds):
        print(f"{number}: {build.commit or 'no checkout'}, {build.facts['tier']}, {build.facts['threads']} threads")
    print(f"at most {ceiling:.0f} GOPS of int8 products")
    print("| step | source | ms (quartiles) | times source 0 | ns a tile and token | GOPS, of the most |")
    print("|---|---|---|---|---|---|")
    products, found = INT8_PRODUCTS[arguments.activations], {}
    for shape in SHAPES:
        found[shape.name] = report(shape, seconds[shape.name], builds[0].facts["tiles"], products)
        show(shape.name, found[shape.name], ceiling)
    if arguments.out:
        named = ("tier", "threads", "ceilings")
        facts = [{"commit": build.commit} | {name: build.facts[name] for name in named} for build in builds]
        record = {"machine": machine_facts(), "model": model.name, "activations": arguments.activations}
        write_record(record | {"sources": facts, "shapes": found}, arguments.out)


if __name__ == "__main__":
    main()
