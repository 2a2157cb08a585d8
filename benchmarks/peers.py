"""Prefill and decode of miaotui beside llama.cpp: same file, same threads, alternating runs, prompts never repeated.

usage: peers.py [--runs N] [--out FILE.json] [MODEL ...]      (default model: smollm2:135m)
Prints medians, spread and ratios; --out also writes every single figure with the machine and the commit.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

from common import machine_facts, peer_python, resolve

PREFILL_TOKENS = 512
DECODE_PROMPT_TOKENS = 32
DECODE_TOKENS = 128


class Worker:
    """One engine in its own process."""

    def __init__(self, engine: str, python: str, model: Path) -> None:
        script = str(Path(__file__).with_name("peer_workers.py"))
        self._process = subprocess.Popen(
            [python, script, engine, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.vocab_size = int(self._answer()["vocab_size"])

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a benchmark worker died; its message is above.")
        return json.loads(line)

    def run(self, prompt: list[int], num_tokens: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompt": prompt, "num_tokens": num_tokens}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(model: Path, runs: int) -> dict[str, dict[str, list[float]]]:
    """Tokens per second of every run: {"prefill" | "decode": {engine: [...]}}; the first round only warms up."""
    workers = {
        "miaotui": Worker("miaotui", sys.executable, model),
        "llama.cpp": Worker("llama.cpp", peer_python("llama-cpp-python"), model),
    }
    rates: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in workers} for kind in ("prefill", "decode")}
    dice = random.Random(1)
    for round_index in range(runs + 1):
        for name, worker in workers.items():
            ids = [dice.randrange(100, worker.vocab_size - 100) for _ in range(PREFILL_TOKENS)]
            prefill = PREFILL_TOKENS / worker.run(ids, 1)["first_s"]
            job = worker.run(ids[:DECODE_PROMPT_TOKENS][::-1], DECODE_TOKENS + 1)
            if round_index > 0:
                rates["prefill"][name].append(prefill)
                rates["decode"][name].append(DECODE_TOKENS / job["rest_s"])
    for worker in workers.values():
        worker.close()
    return rates


def report(name: str, rates: dict[str, dict[str, list[float]]]) -> None:
    print(f"\n{name}")
    print(f"{'':<14}{'miaotui t/s':>24}{'llama.cpp t/s':>24}{'ratio':>8}")
    for kind, engines in rates.items():
        row = f"{kind + (' 512' if kind == 'prefill' else ' 128'):<14}"
        for values in engines.values():
            row += f"{statistics.median(values):>10.1f} ({min(values):.0f}–{max(values):.0f})".rjust(24)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(*engines.values(), strict=True))
        print(f"{row}{ratio:>7.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["smollm2:135m"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {}
    for name in arguments.models:
        model = resolve(name)
        results[model.name] = measure(model, arguments.runs)
        report(model.name, results[model.name])
    if arguments.out:
        record = {"machine": machine_facts(), "prefill_and_decode_tokens_per_s": results}
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
