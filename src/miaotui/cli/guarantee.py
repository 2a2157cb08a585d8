"""What commands that calibrate something to a floor of accuracy have in common: flags, and how results are shown."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from miaotui.cli.parsing import number
from miaotui.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from miaotui.adaptive.cascade.evaluation import Figure

DEFAULT_FLOOR, DEFAULT_CONFIDENCE = 0.99, 0.95


def add_guarantee_options(parser: ArgumentParser, whose: str) -> None:
    """The floor, and how surely it is to be kept. whose: accuracy the floor is a share of."""
    parser.add_argument(
        "--floor",
        type=number,
        default=DEFAULT_FLOOR,
        metavar="F",
        help=f"accuracy to keep, in shares of the {whose} (default {DEFAULT_FLOOR:g})",
    )
    parser.add_argument(
        "--confidence",
        type=number,
        default=DEFAULT_CONFIDENCE,
        metavar="P",
        help=f"how surely, from 0.5 to below 1 (default {DEFAULT_CONFIDENCE:g})",
    )


def check_guarantee(args: Namespace) -> None:
    """Before anything is computed. Raises ConfigError for a floor, a confidence or a share of test rows out of range,
    OutputError where the output can't be written."""
    if not 0.0 < args.floor <= 1.0 or not 0.5 <= args.confidence < 1.0 or not 0.0 <= args.test < 1.0:
        raise ConfigError("--floor is above 0 and at most 1, --confidence from 0.5 and --test from 0 to below 1.")
    if args.output.is_dir() or not os.access(args.output.absolute().parent, os.W_OK | os.X_OK):
        raise OutputError(f"{args.output}: cannot be written; name a file in a folder that is there and yours.")


def with_interval(figure: Figure) -> str:
    """A share with what it may be as well."""
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


def counting(what: str) -> Callable[[int, int], None]:
    """Shows how many are done, on a terminal."""

    def step(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done}/{total} {what}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return step
