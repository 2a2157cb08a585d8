"""miaotui beside other engines: same file, same threads, alternating runs, prompts never repeated.

usage: peers.py [--runs N] [--long] [--openvino] [--avx2] [--out FILE.json] [MODEL ...]      (default: smollm2:135m)
Prints medians, spread and the median of the runs' ratios to llama.cpp; --out also writes every figure, and a table and
a plot beside it.
--long adds a context of 4,096 tokens (slow), --openvino adds OpenVINO GenAI where it can read the file, --avx2 lets
miaotui and llama.cpp use AVX2 only.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from common import machine_facts, peer_python, resolve
from peer_report import Rates, summary, write
from workers import Worker, WorkerDied


@dataclass(frozen=True)
class Kind:
    """A job, and which of its two times counts for how many tokens."""

    name: str
    sequences: int
    prompt_tokens: int
    output_tokens: int

    def rate(self, times: dict[str, float]) -> float:
        if not self.output_tokens:
            return self.sequences * self.prompt_tokens / times["prefill_s"]
        return self.sequences * self.output_tokens / times["decode_s"]


SHORT = (
    Kind("prefill 512", 1, 512, 0),
    Kind("decode 128", 1, 32, 128),
    Kind("decode, 4 sequences", 4, 32, 48),
    Kind("decode, 16 sequences", 16, 32, 32),
)
LONG = (Kind("prefill 4096", 1, 4096, 0), Kind("decode behind 4096", 1, 4096, 48))


class Engine(Worker):
    """One engine in its own process. Raises WorkerDied where that engine cannot go on."""

    def __init__(self, engine: str, python: str, model: Path) -> None:
        super().__init__([python, str(Path(__file__).with_name("peer_workers.py")), engine, str(model)])
        self.vocab_size = int(self.facts["vocab_size"])

    def run(self, kind: Kind, dice: random.Random, vocab_size: int) -> float:
        prompts = [
            [dice.randrange(100, vocab_size - 100) for _ in range(kind.prompt_tokens)] for _ in range(kind.sequences)
        ]
        return kind.rate(self.ask([prompts, kind.output_tokens]))


def measure(model: Path, runs: int, kinds: tuple[Kind, ...], llama: str, *, openvino: bool) -> Rates:
    """Tokens per second of every run, {kind: {engine: [...]}}; the first round only warms up."""
    pythons = {"miaotui": sys.executable, "miaotui-int8": sys.executable, "llama.cpp": peer_python(llama)}
    workers = {name: Engine(name, python, model) for name, python in pythons.items()}
    if openvino:
        try:
            workers["openvino"] = Engine("openvino", peer_python("openvino-genai"), model)
        except WorkerDied:
            print(f"OpenVINO GenAI cannot read {model.name}; its message is above.", file=sys.stderr)
    rates: Rates = {kind.name: {name: [] for name in workers} for kind in kinds}
    dice, vocab_size = random.Random(1), min(worker.vocab_size for worker in workers.values())
    for round_index in range(runs + 1):
        for kind in kinds:
            order = list(workers) if round_index % 2 else list(workers)[::-1]
            for name in order:
                if name == "openvino" and kind.sequences > 1:
                    continue  # its pipeline for token ids takes one sequence
                rate = workers[name].run(kind, dice, vocab_size)
                if round_index > 0:
                    rates[kind.name][name].append(rate)
    for worker in workers.values():
        worker.close()
    return rates


def report(name: str, rates: Rates) -> None:
    """Print a table: rate (range) and ratio to llama.cpp of each engine."""
    print(f"\n{name}, tokens/s")
    for kind, engines in rates.items():
        cells = []
        for engine, values in engines.items():
            if not values:
                continue
            median, low, high, ratio = summary(values, engines["llama.cpp"])
            cells.append(f"{engine} {median:.0f} ({low:.0f}–{high:.0f}) {ratio:.2f}x".ljust(36))
        print(f"  {kind:<21}{'  '.join(cells)}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["smollm2:135m"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {}
    llama = "llama-cpp-python"
    if arguments.avx2:
        os.environ["MIAOTUI_ISA"] = "avx2"
        llama += "-avx2"
    kinds = SHORT + (LONG if arguments.long else ())
    for name in arguments.models:
        model = resolve(name)
        try:
            results[model.name] = measure(model, arguments.runs, kinds, llama, openvino=arguments.openvino)
        except WorkerDied:
            sys.exit("a benchmark worker died; its message is above.")
        report(model.name, results[model.name])
        if arguments.out:
            write({"machine": machine_facts(), "tokens_per_s": results}, arguments.out)


if __name__ == "__main__":
    main()
