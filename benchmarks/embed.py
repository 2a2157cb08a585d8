"""Texts per second of a text encoder, against sentence-transformers: same model, texts and threads, alternating runs.

usage: embed.py [--runs N] [--texts N] [--out FILE.json] [MODEL]      (default: minilm)
Prints medians, the median of the runs' ratios to sentence-transformers in float32, tokens per second, GOPS beside the
machine's measured int8 ceiling, and the cosine of each engine's vectors to those of sentence-transformers.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import data_file, machine_facts, peer_python, resolve, write_record
from workers import Worker, WorkerDied

ENGINES = ("miaotui int8", "miaotui int16", "sentence-transformers float32", "sentence-transformers bfloat16")
REFERENCE = "sentence-transformers float32"


class Engine(Worker):
    """One engine in a process of its own. Raises WorkerDied."""

    def __init__(self, engine: str, model: Path, threads: int) -> None:
        python = sys.executable if engine.startswith("miaotui") else peer_python("sentence-transformers")
        script = str(Path(__file__).with_name("embed_worker.py"))
        super().__init__([python, script, engine, str(model), str(threads)])

    def run(self, texts: list[str], save: str | None = None) -> float:
        return float(self.ask({"texts": texts, "save": save})["seconds"])


def workloads(count: int) -> dict[str, list[str]]:
    """Questions (about 14 tokens), passages (about 130), and single questions one after another."""
    with gzip.open(data_file("question_pairs.jsonl.gz"), "rt", encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file]
    questions = [pair[side] for side in ("text_a", "text_b") for pair in pairs][:count]
    wiki = data_file("wikitext2-test.raw").read_text("utf-8").split("\n")
    passages = [line.strip()[:700] for line in wiki if len(line) > 400][: max(count // 8, 1)]
    return {"questions": questions, "passages": passages}


def tokens_of(model: Path, texts: list[str]) -> int:
    from miaotui import Embedder

    with Embedder(model) as embedder:
        return sum(map(len, embedder.encode(texts, truncate=True)))


def operations_per_token(model: Path) -> float:
    from miaotui import Embedder

    with Embedder(model) as embedder:
        linears = (n for n in embedder.graph.nodes if n.kind == "linear")
        return float(sum(2 * w.num_rows * w.num_cols for n in linears for w in n.matrices))


def measure(model: Path, threads: int, runs: int, count: int) -> dict[str, Any]:
    workers = {engine: Engine(engine, model, threads) for engine in ENGINES}
    jobs, results = workloads(count), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, texts in jobs.items():
            seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            saved = {engine: str(Path(folder) / f"{i}.f32") for i, engine in enumerate(ENGINES)}
            for engine, worker in workers.items():
                worker.run(texts, saved[engine])  # warm, and for the cosines
            for _ in range(runs):
                for engine, worker in workers.items():
                    seconds[engine].append(worker.run(texts))
            reference = vectors_in(saved[REFERENCE])
            cosines = {engine: cosine(vectors_in(saved[engine]), reference) for engine in ENGINES}
            results[name] = report(name, texts, tokens_of(model, texts), seconds, cosines)
        results["one at a time"] = latencies(workers, jobs["questions"][:200])
    for worker in workers.values():
        worker.close()
    return results


def vectors_in(path: str) -> np.ndarray:
    """What a worker wrote: the width as an int32, then float32 rows."""
    content = Path(path).read_bytes()
    return np.frombuffer(content, np.float32, offset=4).reshape(-1, int.from_bytes(content[:4], "little"))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


def latencies(workers: dict[str, Engine], texts: list[str]) -> dict[str, Any]:
    """Milliseconds of single questions."""
    times: dict[str, list[float]] = {engine: [] for engine in workers}
    for text in texts:
        for engine, worker in workers.items():
            times[engine].append(1e3 * worker.run([text]))
    shown = {e: {"p50_ms": float(np.median(t)), "p95_ms": float(np.quantile(t, 0.95))} for e, t in times.items()}
    for engine, figures in shown.items():
        print(f"one at a time  {engine:32} p50 {figures['p50_ms']:7.2f} ms  p95 {figures['p95_ms']:7.2f} ms")
    return shown


def report(
    name: str, texts: list[str], num_tokens: int, seconds: dict[str, list[float]], cosines: dict[str, Any]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"texts": len(texts), "tokens": num_tokens}
    for engine, times in seconds.items():
        ratio = median(a / b for a, b in zip(seconds[REFERENCE], times, strict=True))
        texts_per_s, tokens_per_s = len(texts) / median(times), num_tokens / median(times)
        figures[engine] = {
            "seconds": times,
            "texts_per_s": texts_per_s,
            "tokens_per_s": tokens_per_s,
            "ratio": ratio,
            "least_cosine": float(cosines[engine].min()),
            "mean_cosine": float(cosines[engine].mean()),
        }
        print(
            f"{name:14} {engine:32} {texts_per_s:8.0f} texts/s {tokens_per_s:9.0f} tokens/s "
            f"x{ratio:5.2f}  cosine {cosines[engine].min():.5f} (mean {cosines[engine].mean():.5f})"
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="minilm")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from miaotui import _native

    facts, model = machine_facts(), resolve(args.model)
    try:
        results = measure(model, facts["threads"], args.runs, args.texts)
    except WorkerDied:
        sys.exit("a worker has ended; its message is above.")
    ceilings = _native.measure_ceilings()
    per_token = operations_per_token(model)
    for name in ("questions", "passages"):
        gops = results[name]["miaotui int8"]["tokens_per_s"] * per_token / 1e9
        results[name]["miaotui int8"]["gops"] = gops
        share = gops / ceilings["int8_gops"]
        print(f"{name:14} miaotui int8: {gops:.0f} GOPS of products, {share:.0%} of the int8 ceiling")
    if args.out:
        write_record({"machine": facts, "ceilings": ceilings, "results": results}, args.out)


if __name__ == "__main__":
    main()
