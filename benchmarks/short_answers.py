"""Short answers for a few users at once: how long until the last token, and how many a second one machine gives.

usage: short_answers.py [--users N] [--pauses S,S,…] [--seconds S] [--repeated SHARE] [--rounds N] [--out FILE] [MODEL]
                                                                                         (default: smollm2:135m)
Each user asks, reads the whole answer (at most 32 tokens, up to its first full stop or line's end), pauses for a while
(exponentially distributed, with that mean) and asks again; --pauses are the loads, one after the other. A share of the
questions was asked before, by anybody, each as likely; the others are new: real ones, from the labelled pairs of
questions. The server keeps answers in memory, drafts from past answers and plans; every round and every load begins
with an empty one. "complete" is from sending the request to having the last byte.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import data_file, machine_facts, resolve, with_range, write_record
from server_peers import serving

ASKING = "Answer in one short sentence. "
OPTIONS = ("--cache", "memory", "--planning", "adaptive", "--drafting", "past")


def questions() -> list[str]:
    """Different ones, in an order of their own."""
    with gzip.open(data_file("question_pairs.jsonl.gz"), "rt", encoding="utf-8") as stream:
        texts = dict.fromkeys(json.loads(line)["text_a"] for line in stream)
    found = list(texts)
    random.Random(5).shuffle(found)
    return found


class Users:
    """Who asks one server. fresh: questions nobody has asked; asked: those that somebody has."""

    def __init__(self, port: int, fresh: Iterator[str], arguments: argparse.Namespace) -> None:
        self.times_s: list[float] = []
        self.paths: Counter[str] = Counter()
        self.tokens: list[int] = []
        self._port, self._fresh, self._repeated = port, fresh, arguments.repeated
        self._asked: list[str] = []
        self._lock = threading.Lock()

    def run(self, number: int, pause_s: float, until_s: float) -> None:
        """One of them, until that moment (monotonic); an answer under way then still counts."""
        rng, connection = random.Random(number), http.client.HTTPConnection("127.0.0.1", self._port)
        if pause_s:
            time.sleep(rng.uniform(0, pause_s))
        while time.monotonic() < until_s:
            with self._lock:
                again = bool(self._asked) and rng.random() < self._repeated
                text = rng.choice(self._asked) if again else next(self._fresh)
                self._asked.append(text)
            self._ask(connection, text)
            if pause_s:
                time.sleep(rng.expovariate(1 / pause_s))

    def _ask(self, connection: http.client.HTTPConnection, text: str) -> None:
        messages = [{"role": "user", "content": ASKING + text}]
        body: dict[str, Any] = {"messages": messages, "temperature": 0, "max_tokens": 32, "stop": [".", "\n"]}
        start_s = time.perf_counter()
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body | {"miaotui": True}), {"content-type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read())
        took_s = time.perf_counter() - start_s
        with self._lock:
            self.times_s.append(took_s)
            self.paths[answer["miaotui"]["path"]] += 1
            self.tokens.append(answer["usage"]["completion_tokens"])


def measure(model: Path, pause_s: float, fresh: Iterator[str], arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home, serving(model, home, *OPTIONS) as port:
        users = Users(port, fresh, arguments)
        start_s = time.monotonic()
        threads = [
            threading.Thread(target=users.run, args=(number, pause_s, start_s + arguments.seconds))
            for number in range(arguments.users)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - start_s
    times = sorted(users.times_s)
    return {
        "answers": len(times),
        "answers_per_s": len(times) / took_s,
        "p50_s": statistics.median(times),
        "p95_s": times[min(int(0.95 * len(times)), len(times) - 1)],
        "longest_s": times[-1],
        "mean_tokens": statistics.fmean(users.tokens),
        "paths": dict(users.paths),
    }


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--pauses", type=numbers, default=[2.0, 1.0, 0.5, 0.0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--repeated", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model, fresh = resolve(arguments.model), iter(questions())
    rounds: dict[str, list[dict[str, Any]]] = {f"{pause_s:g}": [] for pause_s in arguments.pauses}
    for number in range(arguments.rounds):
        for pause_s in arguments.pauses:
            print(f"round {number + 1} of {arguments.rounds}: pauses of {pause_s:g} s", file=sys.stderr, flush=True)
            rounds[f"{pause_s:g}"].append(measure(model, pause_s, fresh, arguments))
    print(f"{arguments.users} users, {arguments.repeated:.0%} asked before; medians of {arguments.rounds} rounds")
    print("| pause s | answers/s | p50 s | p95 s | longest s | tokens | from memory |\n|---|---|---|---|---|---|---|")
    for pause, found in rounds.items():
        cells = [
            with_range(values)
            for values in (
                [one[name] for one in found] for name in ("answers_per_s", "p50_s", "p95_s", "longest_s", "mean_tokens")
            )
        ]
        kept = sum(one["paths"].get(path, 0) for one in found for path in ("memory", "shared"))
        share = kept / sum(one["answers"] for one in found)
        print(f"| {pause} | {' | '.join(cells)} | {share:.0%} |")
    if arguments.out:
        record = {"machine": machine_facts(), "model": model.name, "users": arguments.users,
                  "repeated": arguments.repeated, "seconds": arguments.seconds, "rounds": rounds}  # fmt: skip
        write_record(record, arguments.out)


if __name__ == "__main__":
    main()
