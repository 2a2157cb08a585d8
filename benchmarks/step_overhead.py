"""What Python does in a decode step, beside the native calls: microseconds for 1, 4, 16 and 64 greedy sequences.

usage: step_overhead.py [--steps N] [--out FILE.json] [MODEL]   (default model: smollm2:135m)

The forward pass and the choice of each token are native and timed where they are called; what is left of
`Engine.step` is Python's: deciding what is read, filling the batch, keeping tokens, text, deltas. Timing adds some
0.2 us a sequence to that. Each count runs twice: with the model, which reads all its weights in each step, so that
Python finds none of its own memory in the caches; and with a forward pass that does nothing, so that it finds all.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import figure, machine_facts, resolve, write_record
from miaotui import LLM, SamplingParams

COUNTS = (1, 4, 16, 64)
PROMPT_TOKENS = 32
Samples = dict[str, list[float]]


class Timed:
    """Stands for an object; the seconds that its calls of one name take are added up in `seconds`."""

    def __init__(self, timed: Any, name: str, seconds: dict[str, float]) -> None:
        call = getattr(timed, name)
        self._timed = timed

        def measured(*arguments: Any) -> Any:
            start_s = time.perf_counter()
            result = call(*arguments)
            seconds[name] += time.perf_counter() - start_s
            return result

        setattr(self, name, measured)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timed, name)


def measure(llm: LLM, count: int, num_steps: int, *, has_model: bool = True) -> Samples:
    """Microseconds of each decode step of so many sequences: whole, and of that what is native, and the rest.

    has_model: or the forward pass of the steps that count does nothing, and its logits stay as they are.
    """
    engine, rng = llm.loaded.engine, np.random.default_rng(count)
    runner: Any = engine.runner
    program, seconds = runner._program, {"run": 0.0, "sample": 0.0}
    runner._program = Timed(program, "run", seconds)
    params = SamplingParams(temperature=0.0, max_tokens=num_steps, ignore_eos=True)
    for _ in range(count):
        prompt = rng.integers(100, llm.loaded.file.spec.vocab_size - 100, PROMPT_TOKENS)
        for sequence in engine.add(prompt.tolist(), params):
            sequence.sampler = Timed(sequence.sampler, "sample", seconds)
    found: Samples = {"step": [], "forward": [], "sampling": [], "python": []}
    num_alike = 0
    while engine.scheduler.has_work:
        if num_alike and not has_model:
            runner._program.run = lambda *_: None
        seconds.update(run=0.0, sample=0.0)
        start_s = time.perf_counter()
        engine.step()
        step_s = time.perf_counter() - start_s
        if len(engine.slices) == count and all(part.num_tokens == 1 for part in engine.slices):
            num_alike += 1
            python_s = step_s - seconds["run"] - seconds["sample"]
            for name, spent_s in zip(found, (step_s, seconds["run"], seconds["sample"], python_s), strict=True):
                found[name].append(round(1e6 * spent_s, 1))
    runner._program = program
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    path, most, load = resolve(arguments.model), max(COUNTS), os.getloadavg()[0]
    rows: dict[str, dict[str, Any]] = {}
    with LLM(path, context_length=1024, max_sequences=most, max_logit_rows=most) as llm:
        measure(llm, most, 20)  # what only the first steps do
        print("sequences   step us   forward   sampling   Python    share   in the caches   a sequence")
        for count in COUNTS:
            row = {name: figure(samples) for name, samples in measure(llm, count, arguments.steps).items()}
            row["python_cached"] = figure(measure(llm, count, arguments.steps, has_model=False)["python"])
            rows[str(count)] = row
            step, forward, sampling, python, cached = (part["median"] for part in row.values())
            print(
                f"{count:9d} {step:9.0f} {forward:9.0f} {sampling:10.0f} {python:8.0f} {python / step:8.2%}"
                f" {cached:15.0f} {cached / count:12.1f}"
            )
    if arguments.out:
        record = {"machine": machine_facts(), "load": load, "model": path.name, "unit": "us", "sequences": rows}
        write_record(record, arguments.out)


if __name__ == "__main__":
    main()
