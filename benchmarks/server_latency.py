"""Latencies of `miaotui serve`: cold start, a system prompt seen before, and streams beside a long prompt.

usage: server_latency.py [--runs N] [--out FILE.json] [MODEL]            (default: smollm2:135m)
Each run starts a server with an empty folder for prefixes, asks twice behind the same system prompt of about 2,000
tokens, ends the server, starts it again and asks once more; then it measures the gaps between a stream's tokens while a
prompt of about 4,000 tokens is read beside it, and alone before and after that (machines slow down after seconds of
load), for one and for four streams. Tokens without text (an answer's end, a turn's name) are barred from these
streams: behind them the next text would come after two steps, and count as one gap.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import figure, machine_facts, resolve, with_range, write_record
from miaotui.formats import open_model
from miaotui.formats.tokenizer import Tokenizer
from server_peers import serving

WORDS = (
    "the",
    "of",
    "and",
    "a",
    "in",
    "to",
    "is",
    "was",
    "he",
    "for",
    "it",
    "with",
    "as",
    "on",
    "be",
    "at",
    "by",
    "had",
)


def text_of(num_words: int, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(num_words))


@contextmanager
def ready(model: Path, home: str) -> Iterator[tuple[str, float]]:
    """A server's address, and the seconds until it was ready."""
    start_s = time.perf_counter()
    with serving(model, home, "--prefix-cache", "1GiB", "--context-length", "8192") as port:
        yield f"http://127.0.0.1:{port}", time.perf_counter() - start_s


def stream(url: str, body: dict[str, Any]) -> list[float]:
    """When each piece of text came, in seconds from the request on."""
    asked = json.dumps({"stream": True, "temperature": 0, "ignore_eos": True} | body).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", asked, {"content-type": "application/json"})
    start_s = time.perf_counter()
    with urllib.request.urlopen(request) as reply:
        texts = (line for line in reply if b'"content":"' in line and b'"content":""' not in line)
        return [time.perf_counter() - start_s for _ in texts]


def first_token_s(url: str, seed: int, question: str) -> float:
    messages = [{"role": "system", "content": text_of(1950, seed)}, {"role": "user", "content": question}]
    return stream(url, {"messages": messages, "max_tokens": 4})[0]


def without_text(model: Path) -> dict[str, float]:
    """A bias against tokens that are no text."""
    tokenizer = Tokenizer.from_model(open_model(model))
    return {str(id): -100.0 for id in range(tokenizer.vocab_size) if tokenizer.is_special(id)}


def gaps_s(url: str, num_streams: int, seed: int, beside: int, bias: dict[str, float]) -> list[float]:
    """Gaps of streams, all of them or those while a prompt of so many words is read beside them."""
    gaps: list[float] = []
    window = [0.0, float("inf")]

    def run(number: int) -> None:
        begin_s = time.perf_counter()
        messages = [{"role": "user", "content": text_of(20, seed + number)}]
        times_s = stream(url, {"messages": messages, "max_tokens": 700, "logit_bias": bias})
        at_s = [begin_s + seconds for seconds in times_s]
        gaps.extend(b - a for a, b in itertools.pairwise(at_s) if window[0] <= a <= window[1])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(num_streams)]
    for thread in threads:
        thread.start()
    if beside:
        time.sleep(0.8)
        window[0] = time.perf_counter()
        stream(url, {"messages": [{"role": "user", "content": text_of(beside, seed + 99)}], "max_tokens": 1})
        window[1] = time.perf_counter()
    for thread in threads:
        thread.join()
    return gaps


class Notes:
    """Figures by name, one for each run, and what they were made from."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}
        self.gaps_s: dict[str, list[list[float]]] = {}

    def add(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def keep(self, name: str, gaps: list[float]) -> None:
        self.gaps_s.setdefault(name, []).append([round(gap, 6) for gap in gaps])


def measure_run(model: Path, run: int, bias: dict[str, float], notes: Notes) -> None:
    """Two starts of a server on one folder."""
    with tempfile.TemporaryDirectory() as home:
        with ready(model, home) as (url, ready_s):
            notes.add("cold start, weights to pack, s", ready_s)
            first_s = first_token_s(url, run, "What was that about?")
            notes.add("first token behind 2,000 new tokens, s", first_s)
            notes.add("the same tokens again, share of that", first_token_s(url, run, "And now?") / first_s)
        with ready(model, home) as (url, ready_s):
            notes.add("cold start, weights packed, s", ready_s)
            again_s = first_token_s(url, run, "Once more?")
            notes.add("the same tokens after a restart, share of that", again_s / first_s)
            for num_streams in (1, 4):
                measure_gaps(url, num_streams, run, bias, notes)


def measure_gaps(url: str, num_streams: int, run: int, bias: dict[str, float], notes: Notes) -> None:
    """Of streams alone, beside a long prompt, and alone again."""
    seed = 1000 * num_streams + 10 * run  # no text twice: it would be found
    gaps = gaps_s(url, num_streams, seed, 0, bias)
    beside = gaps_s(url, num_streams, seed + 200, 3900, bias)
    gaps += gaps_s(url, num_streams, seed + 400, 0, bias)
    alone = statistics.median(gaps)
    notes.add(f"{num_streams} streams: median gap alone, ms", alone * 1e3)
    for where, some in (("alone", gaps), ("beside 4,000 tokens", beside)):
        name = f"{num_streams} streams {where}"
        notes.add(f"{name}: gap p99, times the median alone", sorted(some)[int(0.99 * len(some))] / alone)
        notes.keep(name, some)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2:135m")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    model, notes = resolve(arguments.model), Notes()
    bias = without_text(model)
    for run in range(arguments.runs):
        measure_run(model, run, bias, notes)
        if arguments.out:  # as it grows: a run takes a while
            figures = {name: figure(values) for name, values in notes.figures.items()}
            record = {"machine": machine_facts(), "model": model.name, "figures": figures, "gaps_s": notes.gaps_s}
            write_record(record, arguments.out)
    for name, values in notes.figures.items():
        print(f"| {name} | {with_range(values, 3)} |")


if __name__ == "__main__":
    main()
