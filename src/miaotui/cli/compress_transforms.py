"""What `miaotui compress` can do to a model before and after quantization: fold, rotate, narrow, correct."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miaotui.compress.calibration import Calibration
    from miaotui.compress.compress import Compressed
    from miaotui.compress.source import Source
    from miaotui.formats.weights import TensorType


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the transforms, all of them off unless asked for."""
    group = parser.add_argument_group("transforms (off by default; what each buys and costs is in the guide)")
    group.add_argument("--fold", choices=("awq",), metavar="awq", help="move scales into the norms, by the calibration")
    group.add_argument("--rotate", choices=("heads", "stream"), help="turn value heads, or the residual stream too")
    group.add_argument(
        "--low-rank", type=float, metavar="SHARE", help="matrices as two factors; weights to keep, 0 to 1"
    )
    group.add_argument(
        "--rank-correction", type=int, metavar="RANK", help="factors (1 to 32) that make up for rounding"
    )
    text = "write the correction as OUT.lora.gguf, a LoRA that llama.cpp takes; otherwise only miaotui runs the model"
    group.add_argument("--adapter", action="store_true", help=text)


def check(args: Namespace) -> None:
    """What can be told to be wrong before hours of work. Raises ConfigError, OutputError."""
    from miaotui.compress.corrected import adapter_beside
    from miaotui.errors import ConfigError, OutputError

    if not args.adapter:
        return
    if args.rank_correction is None:
        raise ConfigError("--adapter says where a correction goes; give --rank-correction, too.")
    beside = adapter_beside(args.output)
    if beside.exists() and not args.force:
        raise OutputError(f"{beside}: exists; give --force to replace it, or another name.")


def transformed(
    args: Namespace, source: Source, calibration: Calibration | None, kind: TensorType, method: str
) -> tuple[Source, Calibration | None]:
    """The source and the statistics of its inputs, after the transforms that were asked for, in this order."""
    if args.rotate:
        from miaotui.compress.quantize.rotate import rotate

        source, calibration = rotate(source, calibration, stream=args.rotate == "stream")
    if args.fold:
        from miaotui.compress.quantize.fold import fold

        folding = fold(
            source, calibration, kind, method, told=lambda one, k, n: _show(args, "fold", one.joint.name, k, n)
        )
        source, calibration = folding.source, folding.calibration
    if args.low_rank is not None:
        from miaotui.compress.low_rank import low_rank

        narrow = low_rank(source, calibration, args.low_rank, told=lambda name, k, n: _show(args, "ranks", name, k, n))
        source, calibration = narrow.source, narrow.calibration
    return source, calibration


def written(
    args: Namespace, source: Source, calibration: Calibration | None, quantize: Callable[[Path], Compressed]
) -> Compressed:
    """The output, corrected if that was asked for."""
    if args.rank_correction is None:
        return quantize(args.output)
    from miaotui.compress.corrected import write_corrected

    done = write_corrected(
        source,
        args.output,
        args.rank_correction,
        calibration,
        quantize,
        beside=args.adapter,
        told=lambda one, k, n: _show(args, "correct", one.name, k, n),
    )
    if not args.json:
        where = done.adapter or "in the model, which only miaotui runs"
        print(f"correction of rank {args.rank_correction}: {done.factor_bytes / 1e6:.1f} MB, {where}")
    return done.compressed


def _show(args: Namespace, what: str, name: str, done: int, total: int) -> None:
    if not args.json and sys.stderr.isatty():
        print(f"\r{done / total:4.0%} {what} {name:<40.40}\r", end="", file=sys.stderr, flush=True)
