"""`miaotui compress --separable`: convolutions as depthwise and pointwise ones."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miaotui.compress.calibration import Calibration
    from miaotui.compress.source import Source


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the argument."""
    text = (
        "convolutions of a text classifier as depthwise and pointwise: filters of each channel (a whole number), or "
        "the largest relative error to allow (between 0 and 1), from which each gets its least rank"
    )
    parser.add_argument("--separable", type=_rank_or_error, metavar="RANK|ERROR", help=text)


def separated(args: Namespace, source: Source, calibration: Calibration | None) -> Source:
    """The source, with what was asked for; says what it did."""
    if args.separable is None:
        return source
    from miaotui.compress.separable_source import separable

    rank, error = (args.separable, 0.0) if isinstance(args.separable, int) else (0, args.separable)
    done = separable(source, rank=rank, error=error, calibration=calibration)
    if not args.json:
        for one in done.convolutions:
            became = f"rank {one.rank}, error {one.error:.1%}" if one.rank else "stays whole"
            print(f"{one.name}: {became}, {one.before} → {one.after} multiply-adds a token", file=sys.stderr)
    return done.source


def _rank_or_error(text: str) -> int | float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r:.40} is neither a rank nor an error") from None
