"""What separable convolutions cost and gain: TextCNN (arXiv:1408.5882) on SST-2, whole, taken apart, tuned again.

usage: separable.py [--taps 3,5,7] [--filters 256] [--rank 1] [--epochs 5] [--seeds 1] [--out FILE.json] [--keep FOLDER]
Trains in PyTorch (environment of its own), decomposes and measures with miaotui's engine: multiply-adds, accuracy on
sst2-dev, milliseconds of single sentences and of batches, whole and separable in turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from array_file import Arrays, load_arrays, save_arrays
from common import data_file, machine_facts, peer_python, resolve, write_record

CONTEXT = 512
STATISTICS_TOKENS = 20_000
TEXTS_AT_ONCE = 100
BATCH = 32
ACTIVATIONS = ("int8", "float32")
Texts = list[list[int]]


def worker(*arguments: object) -> str:
    script = str(Path(__file__).with_name("separable_worker.py"))
    done = subprocess.run(
        [peer_python("torch"), script, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def read_texts(name: str, encode: Callable[[list[str]], Texts]) -> tuple[list[str], Texts, np.ndarray]:
    lines = [line.rsplit("\t", 1) for line in data_file(name).read_text("utf-8").splitlines() if "\t" in line]
    texts = [text for text, _ in lines]
    return texts, encode(texts), np.array([int(label) for _, label in lines])


def save_texts(path: Path, texts: Texts, labels: np.ndarray, **more: np.ndarray) -> Path:
    offsets = np.cumsum([0, *map(len, texts)])
    ids = np.concatenate([np.array(text, np.int32) for text in texts])
    save_arrays(path, {"ids": ids, "offsets": offsets, "labels": labels, **more})
    return path


def write_model(path: Path, arrays: Arrays, taps: tuple[int, ...], ranks: tuple[int, ...]) -> Path:
    """A GGUF file of float32 tensors."""
    from miaotui.formats.convolutions import Convolutions
    from miaotui.formats.gguf_write import GgufWriter, PlannedTensor
    from miaotui.formats.spec_text_cnn import fields_of_text_cnn
    from miaotui.formats.weights import TensorType

    convolutions = Convolutions(taps, ranks, ("negative", "positive"))
    filters = arrays["cls.output.weight"].shape[1] // len(taps)
    fields = fields_of_text_cnn("sst2", arrays["token_embd.weight"].shape[1], filters, CONTEXT, convolutions)
    planned = [PlannedTensor(name, TensorType.F32, array.shape) for name, array in arrays.items()]
    with GgufWriter(path, fields, planned) as writer:
        for name, array in arrays.items():
            writer.write(name, np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint8))
    return path


def calibration(embedding: np.ndarray, texts: Texts, taps: tuple[int, ...]) -> Any:
    """Hessians of the windows that each convolution sees."""
    from miaotui.compress.calibration import Calibration, InputStatistics

    inputs, chosen, count = {}, [], 0
    for text in texts:
        chosen.append(text)
        count += len(text)
        if count >= STATISTICS_TOKENS:
            break
    for layer, width in enumerate(taps):
        columns = width * embedding.shape[1]
        hessian = np.zeros((columns, columns), np.float32)
        for first in range(0, len(chosen), TEXTS_AT_ONCE):
            some = chosen[first : first + TEXTS_AT_ONCE]
            rows = np.concatenate([windows_of(embedding[text], width) for text in some])
            hessian += rows.T @ rows
        hessian /= count
        moments = hessian.diagonal().copy()
        inputs[f"blk.{layer}.conv.weight"] = InputStatistics(count, moments, hessian=lambda h=hessian: h)
    return Calibration("", count, inputs)


def windows_of(rows: np.ndarray, width: int) -> np.ndarray:
    """The rows under the taps of each window [tokens, taps * channels], zeros beyond the ends."""
    padded = np.pad(rows, (((width - 1) // 2, width // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(windows).reshape(len(rows), -1)


def arrays_of(path: Path) -> Arrays:
    from miaotui.formats import open_model

    return {name: tensor.to_float32() for name, tensor in open_model(path).weights.items()}


def take_apart(whole: Path, out: Path, rank: int, statistics: Any = None) -> tuple[Path, list[dict[str, Any]]]:
    """What `miaotui compress --separable RANK` does, but in float32."""
    from miaotui.compress.compress import open_source
    from miaotui.compress.separable_source import separable
    from miaotui.formats.spec_text_cnn import TAPS_KEY

    done = separable(open_source(whole), rank=rank, calibration=statistics)
    arrays = {name: done.source.floats(name) for name in done.source.tensors}
    taps = tuple(int(t) for t in done.source.metadata[TAPS_KEY])  # type: ignore[attr-defined]
    told = [
        {"name": one.name, "rank": one.rank, "error": one.error, "before": one.before, "after": one.after}
        for one in done.convolutions
    ]
    return write_model(out, arrays, taps, tuple(one.rank for one in done.convolutions)), told


def quantized(path: Path) -> Path:
    from miaotui.compress.compress import compress, open_source
    from miaotui.formats.weights import TensorType

    return compress(open_source(path), path.with_name(f"{path.stem}-q8_0.gguf"), TensorType.Q8_0).path


def accuracies(paths: dict[str, Path], texts: Texts, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Shares of right answers, by model and activations; files of float32, and of Q8_0 for int8."""
    from miaotui.engine.classifier import Classifier
    from miaotui.formats import open_model

    found: dict[str, dict[str, float]] = {}
    for name, path in paths.items():
        found[name] = {}
        for activations in ACTIVATIONS:
            file = open_model(quantized(path) if activations == "int8" else path)
            scores = Classifier(file, activations=activations).scores(texts)  # type: ignore[arg-type]
            found[name][activations] = float((scores.argmax(1) == labels).mean())
        print(f"{name:24}" + "".join(f"  {a} {100 * v:.2f} %" for a, v in found[name].items()))
    return found


def speeds(paths: dict[str, Path], texts: Texts, runs: int) -> dict[str, Any]:
    """Milliseconds of a sentence alone (p50, p95), and of 32 of them; the models take turns, sentence by sentence."""
    from miaotui.engine.classifier import Classifier
    from miaotui.formats import open_model

    result: dict[str, Any] = {}
    groups = [texts[i : i + BATCH] for i in range(0, len(texts) - BATCH, BATCH)]
    for activations in ACTIVATIONS:
        models = {
            name: Classifier(open_model(quantized(path) if activations == "int8" else path), activations=activations)  # type: ignore[arg-type]
            for name, path in paths.items()
        }
        for kind, jobs in (("alone", [[text] for text in texts]), (f"batch of {BATCH}", groups)):
            times: dict[str, list[float]] = {name: [] for name in models}
            for job in jobs[:20]:
                for model in models.values():
                    model.scores(job)
            for job in jobs * (runs if kind == "alone" else 4 * runs):
                for name, model in models.items():
                    start = time.perf_counter()
                    model.scores(job)
                    times[name].append(1e3 * (time.perf_counter() - start))
            result[f"{activations} {kind}"] = spread(times)
            show_speeds(f"{activations} {kind}", times)
    return result


def spread(times: dict[str, list[float]]) -> dict[str, Any]:
    whole, separable = (np.array(t) for t in times.values())
    each = {n: {"p50_ms": float(np.median(t)), "p95_ms": float(np.quantile(t, 0.95))} for n, t in times.items()}
    return {
        **each,
        "ratio": float(np.median(whole) / np.median(separable)),
        "paired": float(np.median(whole / separable)),
    }


def show_speeds(what: str, times: dict[str, list[float]]) -> None:
    figures = spread(times)
    shown = "  ".join(f"{name} {figures[name]['p50_ms']:.3f} ms" for name in times)
    print(f"{what:24} {shown}: {figures['ratio']:.2f} times (paired {figures['paired']:.2f})")


@contextmanager
def folder_of(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def one_seed(args: argparse.Namespace, folder: Path, data: dict[str, Any], seed: int) -> dict[str, Any]:
    taps, start = args.taps, time.perf_counter()
    trained = folder / f"whole-{seed}.arrays"
    if not trained.exists():
        worker("train", data["train_file"], trained, ",".join(map(str, taps)), args.filters, args.epochs, seed)
    arrays = load_arrays(trained)
    paths = {"whole": write_model(folder / f"whole-{seed}.gguf", arrays, taps, (0,) * len(taps))}
    paths["by the weights"], told = take_apart(paths["whole"], folder / f"plain-{seed}.gguf", args.rank)
    statistics = calibration(arrays["token_embd.weight"], data["train"], taps)
    paths["by the inputs"], fitted = take_apart(paths["whole"], folder / f"fitted-{seed}.gguf", args.rank, statistics)
    student, tuned = folder / f"student-{seed}.arrays", folder / f"tuned-{seed}.arrays"
    save_arrays(student, arrays_of(paths["by the inputs"]))
    if not tuned.exists():
        worker("tune", data["train_file"], trained, student, tuned, args.epochs, seed)
    ranks = tuple(one["rank"] for one in fitted)
    paths["tuned"] = write_model(folder / f"tuned-{seed}.gguf", load_arrays(tuned), taps, ranks)
    print(f"seed {seed}: trained, taken apart and tuned in {time.perf_counter() - start:.0f} s")
    found = accuracies(paths, data["dev"], data["dev_labels"])
    return {"paths": paths, "by_weights": told, "by_inputs": fitted, "accuracy": found}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from miaotui.formats.wordpiece import TextEncoder

    minilm = resolve("minilm")
    encoder = TextEncoder.from_folder(minilm, 1 << 20)
    embedding = minilm_embedding(minilm)
    _, train, train_labels = read_texts("sst2-train.tsv", encoder.encode)
    sentences, dev, dev_labels = read_texts("sst2-dev.tsv", encoder.encode)
    train_file = save_texts(folder / "train.arrays", train, train_labels, embedding=embedding)
    dev_file = save_texts(folder / "dev.arrays", dev, dev_labels)
    data = {"train_file": train_file, "train": train, "dev": dev, "dev_labels": dev_labels}
    seeds = [one_seed(args, folder, data, seed) for seed in range(args.seeds)]
    last = seeds[-1]
    before, after = (sum(one[side] for one in last["by_inputs"]) for side in ("before", "after"))
    print(f"multiply-adds a token: {before} → {after}, {before / after:.2f} times fewer")
    losses = {a: [100 * (s["accuracy"]["whole"][a] - s["accuracy"]["tuned"][a]) for s in seeds] for a in ACTIVATIONS}
    for activations, points in losses.items():
        print(f"{activations}: loses {mean(points):.2f} points of accuracy (seeds: {points})")
    times = speeds({name: last["paths"][name] for name in ("whole", "tuned")}, dev, args.runs)
    start = time.perf_counter()
    for sentence in sentences:
        encoder.encode([sentence])
    tokenizer_ms = 1e3 * (time.perf_counter() - start) / len(sentences)
    torch_ms = {}
    for name in ("whole", "tuned"):
        said = worker("time", dev_file, folder / f"{name}-{args.seeds - 1}.arrays", 2)
        torch_ms[name] = float(json.loads(said)["p50_ms"])
    print(f"besides, tokenizing a sentence takes {tokenizer_ms:.3f} ms; PyTorch, a sentence alone: {torch_ms}")
    shown = [{k: v for k, v in seed.items() if k != "paths"} for seed in seeds]
    return {
        "texts": len(dev),
        "tokens": sum(map(len, dev)),
        "taps": args.taps,
        "filters": args.filters,
        "rank": args.rank,
        "multiply_adds": {"before": before, "after": after},
        "loses_points": losses,
        "speed": times,
        "tokenizer_ms": tokenizer_ms,
        "torch_float32_p50_ms": torch_ms,
        "seeds": shown,
    }


def minilm_embedding(folder: Path) -> np.ndarray:
    from miaotui.formats import open_model

    return open_model(folder).weights["embeddings.word_embeddings.weight"].to_float32()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taps", type=lambda text: tuple(int(t) for t in text.split(",")), default=(3, 5, 7))
    parser.add_argument("--filters", type=int, default=256)
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", type=int, default=2, help="passes over the sentences for each speed")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--keep", type=Path, help="folder for the models that are made; what is there is not trained again"
    )
    args = parser.parse_args()
    with folder_of(args.keep) as folder:
        results = measure(args, folder)
    if args.out:
        write_record({"machine": machine_facts(), **results}, args.out)


if __name__ == "__main__":
    sys.exit(main())
