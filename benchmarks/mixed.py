"""Types mixed by what was measured, beside llama.cpp's mixture Q4_K_M: at most its bytes and its seconds.

usage: mixed.py [--rotate] [--methods search,gptq] [--types q4_0,…] [--windows N] [--rounds N] [--work DIR]
                [--out FILE.json] MODEL …

All start from one float16 file of the model's dequantized weights. Files at hand are often Q4_K_M themselves, and a
quantizer finds again the grid on which weights already lie; --rotate turns the residual stream first (the same
function, other weights), so no type meets its own grid. `miaotui compress` is given the bytes of llama.cpp's file, and
as many seconds a token as its matrices take on our kernels. Losses: KL to the float16 file over the second halves of
windows of WikiText-2, which nothing was calibrated on. Speeds: both files in turns on our engine, as ratios to Q4_K_M.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from common import ROOT, data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.cli import main as miaotui
from miaotui.compress.calibrate.collect import CollectOptions, collect
from miaotui.compress.calibrate.save import save_calibration
from miaotui.compress.compress import compress, open_source
from miaotui.compress.quantize.rotate import rotate
from miaotui.compress.speed import seconds_per_token
from miaotui.formats import open_model
from miaotui.formats.tokenizer import Tokenizer
from miaotui.formats.weights import TensorType
from miaotui.models import build_graph
from quantizers import Reader, calibration_windows, float16_of, save_importance, types_of, with_llama
from transforms import DECODED, WINDOW, speeds

THEIRS = "Q4_K_M"
TYPES = "q4_0,iq4_nl,q4_1,q4_k,q5_0,q5_1,q6_k,q8_0"
CALIBRATION_TOKENS = 16384
AIM = 0.97
"""Of their seconds: estimates are good to some percent, and what is asked for is no slower decoding."""


def source_of(model: Path, work: Path, rotated: bool) -> Path:
    if not rotated:
        return float16_of(model, work)
    path = work / f"{model.stem}-turned-f16.gguf"
    if not path.exists():
        source, _ = rotate(open_source(model), None, stream=True)
        compress(source, path, TensorType.F16)
    return path


def matrix_seconds(path: Path) -> float:
    file = open_model(path)
    return sum(seconds_per_token(w.type, *w.shape) for w in build_graph(file.spec, file.weights).multiplied.values())


def with_ours(source: Path, target: Path, method: str, args: argparse.Namespace, theirs: Path, work: Path) -> float:
    """The mix within the bytes and seconds of `theirs`; returns the seconds it took."""
    begin = time.monotonic()
    command = ["compress", str(source), "-o", str(target), "--force", "--json"]
    command += ["--method", method, "--mix", args.types, "--budget-mb", str(theirs.stat().st_size / 1e6)]
    command += ["--min-speedup", str(matrix_seconds(source) / (AIM * matrix_seconds(theirs)))]
    command += ["--mix-losses", str(target.with_suffix(".losses"))]  # so that this can be run again with other limits
    command += ["--calibration", str(work / "mixed.calibration"), "--mix-text", str(work / "mixed.txt")]
    with redirect_stdout(StringIO()) as said:  # in this process, where every type's speed is measured once
        status = miaotui(command)
    if status != 0:
        raise SystemExit(status)
    print(f"    KL {json.loads(said.getvalue())['mix']['kl']:.4f} on the text it was mixed for", flush=True)
    return time.monotonic() - begin


def made(source: Path, args: argparse.Namespace) -> Iterator[tuple[str, Path, float]]:
    work = args.work
    file = open_model(source)
    tokenizer = Tokenizer.from_model(file)
    windows = calibration_windows(tokenizer, CALIBRATION_TOKENS)
    hessians = "gptq" in args.methods.split(",")
    calibration = collect(file, windows, options=CollectOptions(hessians=hessians))
    save_calibration(calibration, work / "mixed.calibration", hessians=hessians)
    save_importance(calibration, work / "mixed-importance.bin")
    (work / "mixed.txt").write_text("".join(tokenizer.decode(window) for window in windows), "utf-8")
    theirs = work / f"theirs-{THEIRS}.gguf"
    for name, importance in ((THEIRS, None), (f"{THEIRS} imatrix", work / "mixed-importance.bin")):
        target = theirs if importance else work / "plain.gguf"
        yield name, target, with_llama(source, THEIRS, {}, importance, target)
    for method in args.methods.split(","):
        target = work / f"mix-{method}.gguf"
        yield f"mix {method}", target, with_ours(source, target, method, args, theirs, work)


def opened(path: Path) -> LLM:
    return LLM(path, context_length=WINDOW + DECODED, kv_memory_bytes=128 << 20, prefix_cache=False)


def measured(model: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    source = source_of(model, args.work, args.rotate)
    reader = Reader(source, args.windows)
    prompt: list[int] = []
    theirs = args.work / "plain.gguf"
    for name, path, seconds in made(source, args):
        row: dict[str, Any] = {"model": model.stem, "rotated": args.rotate, "quantizer": name, "seconds": seconds}
        row |= {"bytes": path.stat().st_size, "types": dict(Counter(types_of(path).values()))} | reader.divergence(path)
        with opened(path) as ours, opened(theirs) as other:
            prompt = prompt or list(ours.tokenizer.encode(data_file("wikitext2-test.raw").read_text("utf-8")[:8192]))
            row["prefill_ratio"], row["decode_ratio"] = speeds(ours, other, prompt, args.rounds)
        print(
            "{quantizer:16} {seconds:5.0f} s  {bytes} bytes  KL {kl:.5f} ± {kl_halfwidth:.5f}  ppl {ppl:.3f}  "
            "prefill {prefill_ratio:.2f}x  decode {decode_ratio:.2f}x  {types}".format(**row),
            flush=True,
        )
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--rotate", action="store_true", help="turn the residual stream of the source")
    parser.add_argument("--methods", default="search")
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "mixed")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for model in args.models:
        for row in measured(resolve(model), args):
            rows.append(row)
            if args.out:
                write_record({"machine": machine_facts(), "rows": rows}, args.out)


if __name__ == "__main__":
    main()
