"""What a cascade saves: a small model answers, a gate decides whether a large one does.

usage: cascade.py ask  [--task sst2] [--calibration N] [--test N] [--together N] [--verify] --work FILE SMALL LARGE
       cascade.py tell [--floor 0.99 …] [--confidence 0.95] --work FILE --out FILE.json [--plot FILE.svg]

`ask` has both models answer labelled prompts, so many at a time, and keeps what came line by line: it goes on where it
was stopped. `tell` calibrates the gate on the calibration rows and measures it on the test rows, beside routing by
chance and a gate that always knows. --verify also asks the small model whether it was right (a signal that costs time).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

from cascade_plot import draw
from cascade_rows import TASKS, keep, kept
from common import machine_facts, resolve, write_record
from miaotui.adaptive.cascade.calibrating import calibrate
from miaotui.adaptive.cascade.case import Case, collect
from miaotui.adaptive.cascade.curves import by_chance, by_gate, by_oracle
from miaotui.adaptive.cascade.evaluation import evaluate
from miaotui.adaptive.cascade.models import open_models
from miaotui.adaptive.cascade.signals import SIGNALS

FREE = ("margin", "entropy")
"""Signals that cost nothing; with two choices each orders the answers alike, on different thresholds."""


def ask(arguments: argparse.Namespace) -> None:
    task = TASKS[arguments.task]()
    done = {(split, number) for split, number, _ in kept(arguments.work)}
    rows = {"calibration": task.calibration[: arguments.calibration], "test": task.test[: arguments.test]}
    wanted = [(split, number) for split, some in rows.items() for number in range(len(some))]
    wanted.sort(key=lambda place: place[1] / len(rows[place[0]]))  # both parts grow together
    left = [place for place in wanted if place not in done]
    signals = [SIGNALS[name] for name in (*FREE, *(["verifier"] if arguments.verify else []))]
    models = [resolve(arguments.small), resolve(arguments.large)]
    small, large = open_models(models, context_length=1024, activations=arguments.activations)
    with small, large:
        warm = rows["calibration"][0]
        collect(small, large, task.asking, [warm], signals)  # what all prompts begin with is in memory from now on
        begin_s = time.monotonic()
        for count in range(0, len(left), arguments.together):
            places = left[count : count + arguments.together]
            some = [rows[split][number] for split, number in places]
            for (split, number), case in zip(
                places, collect(small, large, task.asking, some, signals, together=len(some)), strict=True
            ):
                keep(arguments.work, split, number, case)
            if count % (10 * arguments.together) == 0:
                took_s = (time.monotonic() - begin_s) / (count + len(places))
                print(f"{count + len(places)}/{len(left)} rows, {took_s:.2f} s each", flush=True)


def tell(arguments: argparse.Namespace) -> None:
    parts: dict[str, list[Case]] = {"calibration": [], "test": []}
    for split, _, case in kept(arguments.work):
        parts[split].append(case)
    shared = set.intersection(*(set(case.values) for case in itertools.chain(*parts.values())))
    gates = []
    for floor, name in itertools.product(arguments.floor, sorted(shared)):
        found = calibrate(parts["calibration"], [SIGNALS[name]], floor, arguments.confidence)
        outcome = evaluate(parts["test"], found.signal, found.threshold)
        gates.append({"calibration": found.facts(), "test": outcome.facts()})
        print(json.dumps(gates[-1], indent=1))
    report = {
        "machine": machine_facts(),
        "floors": arguments.floor,
        "confidence": arguments.confidence,
        "rows": {split: len(cases) for split, cases in parts.items()},
        "gates": gates,
        "curves": {name: by_gate(parts["test"], SIGNALS[name]) for name in sorted(shared)}
        | {"chance": by_chance(parts["test"]), "oracle": by_oracle(parts["test"])},
    }
    write_record(report, arguments.out)
    if arguments.plot:
        arguments.plot.write_text(draw(report, arguments.title), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    asking = commands.add_parser("ask")
    asking.add_argument("--task", choices=sorted(TASKS), default="sst2")
    asking.add_argument("--calibration", type=int, default=1000)
    asking.add_argument("--test", type=int, default=872)
    asking.add_argument("--together", type=int, default=1, help="rows asked at once; their time is shared out")
    asking.add_argument("--activations", default="int16", choices=["int16", "int8"])
    asking.add_argument("--verify", action="store_true")
    asking.add_argument("small")
    asking.add_argument("large")
    asking.set_defaults(run=ask)
    telling = commands.add_parser("tell")
    telling.add_argument("--floor", type=float, nargs="+", default=[0.99])
    telling.add_argument("--confidence", type=float, default=0.95)
    telling.add_argument("--out", type=Path, required=True)
    telling.add_argument("--plot", type=Path)
    telling.add_argument("--title", default="A cascade of two models")
    telling.set_defaults(run=tell)
    for one in (asking, telling):
        one.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
