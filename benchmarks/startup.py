"""A whole process, from start to the first token: wall time and peak memory, miaotui and llama-cpp-python in turn.

usage: startup.py [--runs N] [--out FILE.json] [MODEL]   (default model: smollm2:135m, warm in the page cache)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from common import figure, kept_bytecode, machine_facts, peer_python, resolve, with_range, write_record

LLAMA = """
import sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=2048, n_threads=int(sys.argv[2]), verbose=False)
out = llama.create_chat_completion([{"role": "user", "content": "Hi"}], max_tokens=1, temperature=0)
print(out["choices"][0]["message"]["content"])
"""


def run_once(command: list[str]) -> tuple[float, float]:
    """Seconds of wall time and MB of peak memory of one process."""
    start = time.perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    pid = os.posix_spawn(command[0], command, kept_bytecode(), file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model = str(resolve(arguments.model))
    threads = str(len(os.sched_getaffinity(0)))
    commands = {
        "miaotui": [str(Path(sys.executable).with_name("miaotui")), "run", model, "Hi", "--max-tokens", "1"],
        "llama.cpp": [peer_python("llama-cpp-python"), "-c", LLAMA, model, threads],
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_index in range(arguments.runs + 1):
        for name, command in commands.items():
            once = run_once(command)
            if round_index > 0:  # the first round fills the page cache
                figures[name].append(once)
    found = {
        name: {"wall_s": figure([wall for wall, _ in runs]), "peak_mb": figure([peak for _, peak in runs])}
        for name, runs in figures.items()
    }
    for name, of in found.items():
        wall, peak = of["wall_s"]["samples"], of["peak_mb"]["samples"]
        print(f"{name:<10} wall {with_range(wall, 3)} s   peak {with_range(peak, 0)} MB")
    if arguments.out:
        write_record({"machine": machine_facts(), "model": Path(model).name, "engines": found}, arguments.out)


if __name__ == "__main__":
    main()
