"""Search of kept questions: time of one search by number of questions, beside NumPy and the machine's reading speed.

.venv/bin/python benchmarks/near_index.py [--rows 10000 100000] [--graph 300000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from miaotui import _native
from miaotui.answers.near.shelf import EXACT_ROWS, Shelf
from miaotui.answers.near.vectors import Codes, codes_of

WIDTH = 384


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, EXACT_ROWS])
    parser.add_argument("--graph", type=int, help="also so many questions in usearch's graph")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    ceiling = _native.measure_ceilings()["read_gb_per_s"]
    print(f"the machine reads {ceiling:.1f} GB/s; one search with one thread, {WIDTH} dimensions")
    print("| questions | search | p50 ms | p99 ms | GB/s | of the reading speed |\n|---|---|---|---|---|---|")
    for count in arguments.rows:
        vectors = np.random.default_rng(0).normal(size=(count, WIDTH)).astype(np.float32)
        shelf = filled(vectors, exact_rows=count)
        floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = [codes_of(vector) for vector in vectors[:50]]
        report(
            count,
            "int8, exact",
            lambda q, s=shelf: s.search(q, 8, 0.7),
            queries,
            arguments.repeats,
            count * WIDTH,
            ceiling,
        )
        report(count, "NumPy float32", lambda q, f=floats: np.argpartition(f @ q.astype(np.float32), -8), queries,
               arguments.repeats, 4 * count * WIDTH, ceiling)  # fmt: skip
    if arguments.graph:
        vectors = np.random.default_rng(0).normal(size=(arguments.graph, WIDTH)).astype(np.float32)
        start = time.perf_counter()
        shelf = filled(vectors, exact_rows=EXACT_ROWS)
        print(f"graph of {arguments.graph} questions built in {time.perf_counter() - start:.0f} s")
        queries = [codes_of(vector) for vector in vectors[:50]]
        report(arguments.graph, "usearch", lambda q: shelf.search(q, 8, 0.7), queries, arguments.repeats, None, ceiling)


def filled(vectors: np.ndarray, exact_rows: int) -> Shelf:
    """A shelf with a question for every vector."""
    shelf = Shelf(WIDTH, exact_rows=exact_rows)
    for number, vector in enumerate(vectors):
        shelf.put(number.to_bytes(32, "big"), "question", codes_of(vector))
    return shelf


def report(
    count: int, name: str, search: Callable[[Codes], object], queries: list[Codes], repeats: int,
    num_bytes: int | None, ceiling: float,
) -> None:  # fmt: skip
    """One line of the table."""
    times = []
    for step in range(repeats):
        start = time.perf_counter()
        search(queries[step % len(queries)])
        times.append(time.perf_counter() - start)
    p50, p99 = np.percentile(times, [50, 99])
    speed = f"{num_bytes / p50 / 1e9:.1f} | {num_bytes / p50 / 1e9 / ceiling:.0%}" if num_bytes else "– | –"
    print(f"| {count:,} | {name} | {1e3 * p50:.2f} | {1e3 * p99:.2f} | {speed} |")


if __name__ == "__main__":
    main()
