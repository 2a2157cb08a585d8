"""What folding, rotation, low rank and low-rank correction buy, and at what cost: KL, bytes, prefill and decode.

usage: transforms.py MODEL --calibration FILE [--types q4_0,q4_1,iq4_nl] [--methods rtn,search] [--only NAME,…]
                     [--windows 8] [--rounds 5] [--out FILE.json]

FILE is what `miaotui calibrate MODEL --hessians` wrote from a text other than the one measured on, which is
wikitext2-test.raw: windows of 512 tokens, the second half of each. Every variant is compared with the source, and its
speed with that of the plain file of the same type and method, in alternating runs of one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common import data_file, machine_facts, resolve, write_record
from miaotui import LLM
from miaotui.compress.calibrate.load import load_calibration
from miaotui.compress.calibration import Calibration
from miaotui.compress.compress import compress, open_source
from miaotui.compress.corrected import write_corrected
from miaotui.compress.divergence import DivergenceMeter
from miaotui.compress.low_rank import low_rank
from miaotui.compress.plan import type_named
from miaotui.compress.quantize.fold import fold
from miaotui.compress.quantize.rotate import rotate
from miaotui.compress.source import Source
from miaotui.errors import UnsupportedModelError
from miaotui.formats.weights import TensorType

WINDOW, HALF = 512, 256
DECODED = 64
VARIANTS = ("plain", "fold", "heads", "stream", "stream+fold", "rank 8", "rank 32", "share 0.9", "share 0.8")


@dataclass(frozen=True, slots=True)
class Row:
    """One variant; speeds as shares of the plain file's, medians of the rounds' ratios."""

    type: str
    method: str
    variant: str
    megabytes: float
    kl: float
    kl_halfwidth: float
    agreement: float
    perplexity: float
    prefill_ratio: float
    decode_ratio: float
    build_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--types", default="q4_0,q4_1,iq4_nl")
    parser.add_argument("--methods", default="rtn")
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = resolve(args.model)
    windows, reference = _reference(model, args.windows)
    rows = []
    for kind in args.types.split(","):
        for method in args.methods.split(","):
            for row in _measured(model, kind, method, args, windows, reference):
                rows.append(row)
                print(_line(row), flush=True)
                if args.out:  # after each row: a run takes an hour, and may be stopped
                    document = {"model": model.name, **machine_facts(), "rows": [asdict(row) for row in rows]}
                    write_record(document, args.out)


def _open(path: Path) -> LLM:
    return LLM(
        path, context_length=WINDOW + DECODED, kv_memory_bytes=128 << 20, max_logit_rows=HALF, prefix_cache=False
    )


def _reference(model: Path, count: int) -> tuple[list[list[int]], list[np.ndarray]]:
    with _open(model) as llm:
        text = data_file("wikitext2-test.raw").read_text("utf-8")[: count * WINDOW * 12]
        ids = list(llm.tokenizer.encode(text))
        windows = [ids[k * WINDOW : (k + 1) * WINDOW] for k in range(count)]
        return windows, [llm.logits(window[:-1])[HALF:] for window in windows]


def _measured(
    model: Path,
    kind: str,
    method: str,
    args: argparse.Namespace,
    windows: list[list[int]],
    reference: list[np.ndarray],
) -> Iterator[Row]:
    calibration = load_calibration(args.calibration)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.gguf"
        _build(model, plain, "plain", type_named(kind), method, calibration)
        for variant in args.only.split(","):
            begin, path = time.monotonic(), plain
            if variant != "plain":
                path = Path(folder) / "variant.gguf"
                try:
                    _build(model, path, variant, type_named(kind), method, calibration)
                except UnsupportedModelError as error:
                    print(f"{kind:<7} {method:<7} {variant:<12} left out: {error}", flush=True)
                    continue
            build_s = time.monotonic() - begin
            with _open(path) as llm, _open(plain) as other:
                meter = DivergenceMeter()
                for window, logits in zip(windows, reference, strict=True):
                    meter.add(logits, llm.logits(window[:-1])[HALF:], np.array(window[HALF + 1 :], np.int64))
                prefill, decode = speeds(llm, other, windows[0], args.rounds)
            loss, megabytes = meter.result(), path.stat().st_size / 1e6
            figures = (megabytes, loss.kl, loss.kl_halfwidth, loss.agreement, loss.ppl, prefill, decode, build_s)
            yield Row(kind, method, variant, *figures)


def _build(
    model: Path, path: Path, variant: str, kind: TensorType, method: str, calibration: Calibration | None
) -> None:
    source: Source = open_source(model)
    rank = 0
    for step in variant.split("+"):
        name, _, value = step.partition(" ")
        if name == "fold":
            folding = fold(source, calibration, kind, method)
            source, calibration = folding.source, folding.calibration
        elif name in ("heads", "stream"):
            source, calibration = rotate(source, calibration, stream=name == "stream")
        elif name == "share":
            narrow = low_rank(source, calibration, float(value))
            source, calibration = narrow.source, narrow.calibration
        elif name == "rank":
            rank = int(value)

    def quantize(output: Path) -> object:
        return compress(source, output, kind, method=method, calibration=calibration)

    if rank:
        write_corrected(source, path, rank, calibration, quantize)
    else:
        quantize(path)


def speeds(llm: LLM, plain: LLM, prompt: list[int], rounds: int) -> tuple[float, float]:
    """Prefill and decode as shares of the plain file's."""
    ratios: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        receipts = []
        for one in (llm, plain):
            done = one.generate(prompt[:HALF], max_tokens=DECODED, ignore_eos=True, temperature=0)
            receipts.append(done.receipt)
        ours, theirs = receipts
        ratios.append((theirs.prefill_s / ours.prefill_s, theirs.decode_s / ours.decode_s))
    kept = ratios[1:]  # the first run faults the pages in
    return statistics.median(r[0] for r in kept), statistics.median(r[1] for r in kept)


def _line(row: Row) -> str:
    what = f"{row.type:<7} {row.method:<7} {row.variant:<12} {row.megabytes:7.1f} MB"
    loss = f"KL {row.kl:.4f} ± {row.kl_halfwidth:.4f}  top-1 {row.agreement:.3f}  ppl {row.perplexity:.2f}"
    speed = f"prefill {row.prefill_ratio:.2f}x  decode {row.decode_ratio:.2f}x  built in {row.build_s:.0f} s"
    return f"{what}  {loss}  {speed}"


if __name__ == "__main__":
    sys.exit(main())
