"""Our quantizers beside llama.cpp's: one float16 source, the same type for every tensor, the same calibration text.

usage: quantizers.py [--types Q4_0,Q4_1,IQ4_NL] [--windows N] [--calibration-tokens N] [--work DIR] [--out FILE.json]
                     MODEL …

For each model: a float16 file is written from its dequantized weights; our engine reads prompts (Spec-Bench, MT-bench)
and a part of a novel and collects statistics, whose moments are llama.cpp's importance matrix; every quantizer makes a
file of each type. Then all of them read windows of 512 tokens of WikiText-2, which nothing was calibrated on, and
their distributions over the second half of each are held against the float16 file's.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from array_file import save_arrays
from common import ROOT, data_file, machine_facts, peer_python, resolve, write_record
from miaotui import LLM
from miaotui.compress.calibrate import collect
from miaotui.compress.calibration import Calibration
from miaotui.compress.compress import compress, open_source
from miaotui.compress.divergence import DivergenceMeter
from miaotui.formats import open_model
from miaotui.formats.gguf import read_gguf
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.weights import TensorType

WINDOW = 512
LLAMA, LLAMA_IMPORTANCE = "llama.cpp", "llama.cpp imatrix"
OURS = ("rtn", "search", "gptq")


def prompts() -> Iterator[str]:
    for name in ("spec_bench_half.jsonl", "mt_bench.jsonl"):
        for line in data_file(name).read_text("utf-8").splitlines():
            yield from json.loads(line)["turns"]


def calibration_windows(tokenizer: Tokenizer, tokens: int) -> list[list[int]]:
    """Three windows of prompts, one of the novel, and so on."""
    asked = list(prompts())
    np.random.default_rng(0).shuffle(asked)
    novel = gzip.decompress(data_file("long_text.txt.gz").read_bytes()).decode("utf-8")[200_000:600_000]
    streams = [tokenizer.encode("\n\n".join(asked)), tokenizer.encode(novel)]
    taken, windows = [0, 0], []
    for number in range(tokens // WINDOW):
        which = int(number % 4 == 3)
        windows.append(streams[which][taken[which] : taken[which] + WINDOW])
        taken[which] += WINDOW
    return windows


def float16_of(model: Path, work: Path) -> Path:
    path = work / f"{model.stem}-f16.gguf"
    return path if path.exists() else compress(open_source(model), path, TensorType.F16).path


def with_ours(source: Path, kind: str, method: str, calibration: Calibration, target: Path) -> float:
    begin = time.monotonic()
    compress(open_source(source), target, TensorType[kind], method=method, calibration=calibration)
    return time.monotonic() - begin


def with_llama(source: Path, kind: str, types: dict[str, str], importance: Path | None, target: Path) -> float:
    """types: of the tensors of our file, whose embedding and head have theirs, too; without any llama.cpp chooses."""
    embedding = types.get("token_embd.weight", "-")
    worker = str(Path(__file__).with_name("quantizers_worker.py"))
    command = [peer_python("llama-cpp-python"), worker, str(source), str(target), kind]
    command += [types.get("output.weight", embedding), embedding]
    done = subprocess.run(
        command + ([str(importance)] if importance else []),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return float(done.stdout.split()[-1])


def save_importance(calibration: Calibration, path: Path) -> None:
    save_arrays(path, {name: one.moments for name, one in calibration.inputs.items()})


def types_of(path: Path) -> dict[str, str]:
    return {tensor.name: tensor.type.name for tensor in read_gguf(path).weights.values()}


class Reader:
    """Windows of the evaluation text, and the reference's logits of each."""

    def __init__(self, reference: Path, windows: int) -> None:
        llm = self._open(reference)
        ids = llm.tokenizer.encode(data_file("wikitext2-test.raw").read_text("utf-8")[: windows * WINDOW * 12])
        self._windows = [list(ids[at : at + WINDOW]) for at in range(0, windows * WINDOW, WINDOW)]
        self._expected = [self._logits(llm, window).copy() for window in self._windows]

    def divergence(self, path: Path) -> dict[str, Any]:
        llm, meter = self._open(path), DivergenceMeter()
        for window, expected in zip(self._windows, self._expected, strict=True):
            meter.add(expected, self._logits(llm, window), np.array(window[WINDOW // 2 + 1 :], np.int64))
        return asdict(meter.result())

    @staticmethod
    def _open(path: Path) -> LLM:
        return LLM(path, activations="int16", context_length=WINDOW, kv_memory_bytes=256 << 20, max_logit_rows=WINDOW)

    @staticmethod
    def _logits(llm: LLM, window: list[int]) -> np.ndarray:
        return llm.logits(window[:-1])[WINDOW // 2 :]


def made(
    model: Path, source: Path, kind: str, calibration: Calibration, work: Path
) -> Iterator[tuple[str, Path, float]]:
    """Every quantizer's file of that type, and the seconds it took."""
    importance = work / f"{model.stem}-importance.bin"
    save_importance(calibration, importance)
    types: dict[str, str] = {}
    for method in OURS:
        target = work / f"{model.stem}-{kind}-{method}.gguf"
        seconds = with_ours(source, kind, method, calibration, target)
        types = types_of(target)  # before whoever asked removes the file
        yield method, target, seconds
    for name, given in ((LLAMA, None), (LLAMA_IMPORTANCE, importance)):
        target = work / f"{model.stem}-{kind}-{name.replace(' ', '-')}.gguf"
        seconds = with_llama(source, kind, types, given, target)
        assert types_of(target) == types, "types differ, so figures would not be comparable"
        yield name, target, seconds


def measured(model: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    source = float16_of(model, arguments.work)
    file = open_model(source)
    begin = time.monotonic()
    calibration = collect(file, calibration_windows(Tokenizer.from_model(file), arguments.calibration_tokens))
    print(f"{model.stem}: moments of {calibration.tokens} tokens in {time.monotonic() - begin:.0f} s", flush=True)
    reader = Reader(source, arguments.windows)
    rows = []
    for kind in arguments.types.split(","):
        for name, path, seconds in made(model, source, kind, calibration, arguments.work):
            row = {"model": model.stem, "type": kind, "quantizer": name, "seconds": round(seconds, 1)}
            rows.append(row | {"bytes": path.stat().st_size} | reader.divergence(path))
            print(
                "{model:40} {type:7} {quantizer:18} {seconds:7} s  KL {kl:.5f}  ppl {ppl:.3f}".format(**rows[-1]),
                flush=True,
            )
            path.unlink()
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| model | type | quantizer | seconds | KL | 99 % | of llama.cpp | of its imatrix | perplexity | top-1 |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        same = [r for r in rows if (r["model"], r["type"]) == (row["model"], row["type"])]
        plain, weighed = (next(r["kl"] for r in same if r["quantizer"] == name) for name in (LLAMA, LLAMA_IMPORTANCE))
        lines.append(
            f"| {row['model']} | {row['type']} | {row['quantizer']} | {row['seconds']:.0f} | {row['kl']:.4f} ± "
            f"{row['kl_halfwidth']:.4f} | {row['kl_p99']:.3f} | {row['kl'] / plain:.2f} | {row['kl'] / weighed:.2f} | "
            f"{row['ppl']:.3f} | {100 * row['agreement']:.1f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--types", default="Q4_0,Q4_1,IQ4_NL")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--calibration-tokens", type=int, default=16384)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "quantizers")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = [row for name in arguments.models for row in measured(resolve(name), arguments)]
    print(table(rows))
    if arguments.out:
        write_record({"machine": machine_facts(), "rows": rows}, arguments.out)


if __name__ == "__main__":
    main()
