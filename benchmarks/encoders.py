"""What a text encoder loses in fewer bits, and how fast it is then: cosine, average precision, texts per second.

usage: encoders.py [--pairs N] [--runs N] [--timed N] [--llama N] [--out FILE.json] FOLDER FILE.gguf…

FOLDER is the source (a name such as minilm, or its Hugging Face folder); each FILE.gguf was made of it by `miaotui
compress`. All are compared with the folder in float32, which agrees with transformers to six digits
(tests/engine/test_real_embeddings.py). Average precision: how well the cosine of two questions tells pairs of one
meaning from others (question_pairs.jsonl.gz), with the 95 % interval of its change by resampling the pairs. Speeds are
of alternating runs over the same questions; ratios are to the folder in float32. --llama N has llama.cpp read each
FILE.gguf, too, and compares its vectors of N questions with ours and with the folder's.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from common import data_file, machine_facts, peer_python, resolve, write_record

RESAMPLES = 500


def pairs(count: int) -> tuple[list[str], list[str], np.ndarray]:
    with gzip.open(data_file("question_pairs.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:count]
    labels = np.array([row["label"] for row in rows], bool)
    return [row["text_a"] for row in rows], [row["text_b"] for row in rows], labels


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean, over the pairs of one meaning, of the precision among all pairs that score at least as high."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], labels[order].cumsum()
    last = np.searchsorted(-ranked, -ranked, side="right")  # of those that score the same
    return float((hits[last - 1] / last)[labels[order]].mean())


def change_interval(scores: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    changes = []
    for _ in range(RESAMPLES):
        some = rng.integers(0, len(labels), len(labels))
        changes.append(average_precision(scores[some], labels[some]) - average_precision(reference[some], labels[some]))
    low, high = np.quantile(changes, [0.025, 0.975])
    return float(low), float(high)


def measure(models: dict[str, tuple[Path, str]], count: int, runs: int, timed: int) -> dict[str, Any]:
    from miaotui import Embedder

    first, second, labels = pairs(count)
    embedders = {name: Embedder(path, activations=kind) for name, (path, kind) in models.items()}  # type: ignore[arg-type]
    vectors = {name: embedder.embed([*first, *second], truncate=True) for name, embedder in embedders.items()}
    questions = first[:timed]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(runs):
        for name, embedder in embedders.items():
            start = time.perf_counter()
            embedder.embed(questions, truncate=True)
            seconds[name].append(time.perf_counter() - start)
    exact = next(iter(models))
    similar = {name: (v[: len(first)] * v[len(first) :]).sum(1) for name, v in vectors.items()}
    results = {}
    for name, (_, kind) in models.items():
        cosines = (vectors[name] * vectors[exact]).sum(1)
        low, high = change_interval(similar[name], similar[exact], labels)
        precision = average_precision(similar[name], labels)
        ratio = median(a / b for a, b in zip(seconds[exact], seconds[name], strict=True))
        results[name] = {
            "activations": kind,
            "file_bytes": embedders[name].file.weights.file_bytes,
            "weight_bytes": embedders[name].compiled.weight_bytes,
            "cosine": {
                "least": float(cosines.min()),
                "p1": float(np.quantile(cosines, 0.01)),
                "mean": float(cosines.mean()),
            },
            "average_precision": precision,
            "change_points": 100 * (precision - average_precision(similar[exact], labels)),
            "change_interval_points": (100 * low, 100 * high),
            "texts_per_s": len(questions) / median(seconds[name]),
            "seconds": seconds[name],
            "ratio": ratio,
        }
        show(name, results[name])
    for embedder in embedders.values():
        embedder.close()
    return results


def show(name: str, figures: dict[str, Any]) -> None:
    cosine, (low, high) = figures["cosine"], figures["change_interval_points"]
    print(
        f"{name:28} {figures['file_bytes'] / 1e6:6.1f} MB  cosine {cosine['mean']:.5f} (1 % {cosine['p1']:.5f}, least "
        f"{cosine['least']:.5f})  AP {100 * figures['average_precision']:.2f} ({figures['change_points']:+.2f}, "
        f"{low:+.2f} to {high:+.2f})  {figures['texts_per_s']:6.0f} texts/s  x{figures['ratio']:.2f}",
        flush=True,
    )


def beside_llama(folder: Path, file: Path, texts: list[str], threads: int) -> dict[str, float]:
    """Cosines of llama.cpp's vectors of a file to ours of the same file, and to the folder's in float32."""
    from miaotui import Embedder

    command = [peer_python("llama-cpp-python"), str(Path(__file__).with_name("encoders_llama.py")), str(file)]
    done = subprocess.run([*command, str(threads)], input=json.dumps(texts), capture_output=True, text=True, check=True)
    theirs = np.array(json.loads(done.stdout), np.float32)
    with Embedder(file) as embedder, Embedder(folder, activations="float32") as exact:
        ours, reference = embedder.embed(texts, truncate=True), exact.embed(texts, truncate=True)
    found = {"ours": (theirs * ours).sum(1), "float32": (theirs * reference).sum(1)}
    figures = {
        f"{how}_{name}": float(of(v)) for name, v in found.items() for how, of in (("mean", np.mean), ("least", np.min))
    }
    print(
        f"{file.stem:28} llama.cpp: cosine to ours {figures['mean_ours']:.5f} (least {figures['least_ours']:.5f}), to "
        f"float32 {figures['mean_float32']:.5f} (least {figures['least_float32']:.5f})"
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--timed", type=int, default=2000, help="questions of a timed run")
    parser.add_argument("--llama", type=int, default=0, metavar="N", help="questions that llama.cpp embeds, too")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    folder = resolve(args.folder)
    models = {"folder, float32": (folder, "float32"), "folder, int8 at load": (folder, "int8")}
    models |= {f"{file.stem}, {kind}": (file, kind) for file in args.files for kind in ("int8", "int16")}
    results = measure(models, args.pairs, args.runs, args.timed)
    facts = machine_facts()
    for file in args.files if args.llama else ():
        texts, threads = pairs(args.pairs)[0][: args.llama], facts["threads"]
        results[f"{file.stem}, llama.cpp"] = beside_llama(folder, file, texts, threads)
    if args.out:
        write_record({"machine": facts, "results": results}, args.out)


if __name__ == "__main__":
    main()
