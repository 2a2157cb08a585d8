"""`miaotui compress MODEL -o OUT`: a model's weights in fewer bits."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli import compress_mix, compress_prune, compress_separable, compress_transforms
from miaotui.cli.calibrate import DEFAULT_TOKENS, check_output, sequences, shower
from miaotui.cli.output import print_json
from miaotui.cli.parsing import at_least

if TYPE_CHECKING:
    from miaotui.compress.calibration import Calibration
    from miaotui.compress.compress import Compressed
    from miaotui.compress.plan import Choice
    from miaotui.compress.source import Source
    from miaotui.formats.weights import TensorType


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="name or path of a model: a GGUF file or a Hugging Face folder")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help="the file to write (.gguf)")
    kinds = "q8_0, q6_k, q5_1, q5_0, q4_1, q4_0, q4_k (default), iq4_nl or f16"
    parser.add_argument("--type", default="q4_k", metavar="TYPE", help=f"of the matrices: {kinds}")
    text = (
        "how codes are chosen: rtn, search (default; better with a calibration), gptq (needs one with Hessians; slow)"
    )
    parser.add_argument("--method", default="search", metavar="METHOD", help=text)
    text = "what `miaotui calibrate` wrote, or an imatrix file of llama.cpp"
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--calibration", metavar="FILE", type=Path, help=text)
    known.add_argument("--text", metavar="FILE", type=Path, help="or text to calibrate with now")
    known.add_argument("--prompts", metavar="JSONL", type=Path, help="or prompts, as for `miaotui calibrate`")
    text = f"read so many of them (default {DEFAULT_TOKENS})"
    parser.add_argument("--tokens", type=at_least(1), metavar="N", default=DEFAULT_TOKENS, help=text)
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    text = "small, balanced, fast, or a .toml file of options; options behind it override it"
    parser.add_argument("--recipe", action=compress_mix.ReadRecipe, metavar="RECIPE", help=text)
    compress_mix.add_arguments(parser)
    compress_prune.add_arguments(parser)
    compress_transforms.add_arguments(parser)
    compress_separable.add_arguments(parser)


def run(args: Namespace) -> int:
    """The file appears when it is whole."""
    from miaotui.compress.calibration import check_fits
    from miaotui.compress.compress import compress, open_source
    from miaotui.compress.plan import type_named
    from miaotui.formats.store import resolve

    kind = type_named(args.type)
    path = resolve(args.model)
    _check(args, path)
    step = None if args.json or not sys.stderr.isatty() else _show
    source: Source = open_source(path)
    _check_factors(args, source)
    calibration = _calibration(args, path)
    if calibration is not None:
        check_fits(calibration, source)
    source = compress_separable.separated(args, source, calibration)
    source, calibration = compress_prune.pruned(args, source, calibration, kind)
    source, calibration = compress_transforms.transformed(args, source, calibration, kind, args.method)
    types, found = compress_mix.mixed_types(args, source, calibration) if compress_mix.wants_mix(args) else (None, None)

    def quantize(output: Path) -> Compressed:
        made = None if found is None else found.blocks
        return compress(
            source, output, kind, types=types, method=args.method, calibration=calibration, made=made, step=step
        )

    done = compress_transforms.written(args, source, calibration, quantize)
    if found is not None:
        compress_mix.finish(args)
    if args.json:
        mixed = {} if found is None else {"mix": compress_mix.document(found)}
        print_json(_document(done) | compress_prune.document(args, source, done.path) | mixed)
        return 0
    _print(done, kind, is_mixed=found is not None)
    compress_prune.report(args, source, done.path)
    if found is not None:
        compress_mix.report(found)
    return 0


def _check(args: Namespace, model: Path) -> None:
    """Whatever can be told to be wrong before hours of work. Raises ConfigError, OutputError."""
    from miaotui.compress.quantize import METHODS, NEED_CALIBRATION
    from miaotui.errors import ConfigError

    check_output(args, model)
    compress_prune.check(args)
    compress_transforms.check(args)
    compress_mix.check(args, model)
    if args.method not in METHODS:
        raise ConfigError(f"{args.method!r:.40} is no method; choose one of {', '.join(METHODS)}.")
    if args.method in NEED_CALIBRATION and args.calibration is None and args.text is None and args.prompts is None:
        raise ConfigError(
            f"{args.method} needs to know what matrices are fed: give --text FILE or --prompts JSONL, "
            "or a --calibration with Hessians."
        )


def _check_factors(args: Namespace, source: Source) -> None:
    from miaotui.errors import ConfigError

    changing = ("rotate", "fold", "low_rank", "rank_correction", "prune_width", "mask", "mix")
    wanted = [name for name in changing if getattr(args, name) is not None]
    if wanted and any(".lora_" in name for name in source.tensors):
        raise ConfigError(
            f"this model holds factors already, which --{wanted[0].replace('_', '-')} would not fit; "
            "begin with the model that they were made for."
        )


def _calibration(args: Namespace, model: Path) -> Calibration | None:
    """What was given, or collected now; Hessians of the latter are computed when a method asks, layer by layer."""
    if args.calibration is not None:
        from miaotui.compress.calibrate.load import load_calibration

        return load_calibration(args.calibration)
    if args.text is None and args.prompts is None:
        return None
    from miaotui.compress.calibrate import collect
    from miaotui.formats import open_model

    file = open_model(model)
    progress = None if args.json or not sys.stderr.isatty() else shower("reading, layer", time.monotonic())
    return collect(file, sequences(args, file), progress=progress)


def _show(choice: Choice, done: int, total: int) -> None:
    print(f"\r{done / total:4.0%} {choice.name:<40.40}\r", end="", file=sys.stderr, flush=True)


def _document(done: Compressed) -> dict[str, Any]:
    return {
        "output": str(done.path),
        "source_bytes": done.source_bytes,
        "output_bytes": done.output_bytes,
        "tensors": {c.name: {"before": c.before.name, "after": c.after.name} for c in done.choices},
    }


def _print(done: Compressed, kind: TensorType, *, is_mixed: bool) -> None:
    from miaotui.formats.store_progress import format_bytes

    share = done.output_bytes / done.source_bytes
    print(f"{done.path}: {format_bytes(done.output_bytes)}, {share:.0%} of {format_bytes(done.source_bytes)}")
    kinds = Counter(f"{c.before.name} → {c.after.name}" if c.changes else f"{c.before.name} kept" for c in done.choices)
    print("\n".join(f"  {count:4d} tensors {kind}" for kind, count in kinds.most_common()))
    other = Counter(c.after.name for c in done.choices if c.changes and len(c.shape) == 2 and c.after is not kind)
    if other and not is_mixed:
        told = ", ".join(f"{name} ({count})" for name, count in other.most_common())
        print(f"  beside {kind.name}: {told}, for a head, or for rows that are no whole blocks of {kind.block_weights}")
