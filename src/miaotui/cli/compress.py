"""`miaotui compress MODEL -o OUT`: a model's weights in fewer bits."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli import compress_mix, compress_prune, compress_separable, compress_transforms
from miaotui.cli.output import print_json

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
    parser.add_argument("--calibration", metavar="FILE", type=Path, help=text)
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    text = "small, balanced, fast, or a .toml file of options; options behind it override it"
    parser.add_argument("--recipe", action=compress_mix.Recipe, metavar="RECIPE", help=text)
    compress_mix.add_arguments(parser)
    compress_prune.add_arguments(parser)
    compress_transforms.add_arguments(parser)
    compress_separable.add_arguments(parser)


def run(args: Namespace) -> int:
    """The file appears when it is whole."""
    from miaotui.compress.compress import compress, open_source
    from miaotui.compress.plan import type_named
    from miaotui.errors import OutputError
    from miaotui.formats.store import resolve

    kind = type_named(args.type)
    if args.output.exists() and not args.force:
        raise OutputError(f"{args.output}: exists; give --force to replace it, or another name.")
    step = None if args.json or not sys.stderr.isatty() else _show
    source: Source = open_source(resolve(args.model))
    calibration = _calibration(args.calibration)
    source = compress_separable.separated(args, source, calibration)
    source, calibration = compress_prune.pruned(args, source, calibration, kind)
    source, calibration = compress_transforms.transformed(args, source, calibration, kind, args.method)
    types, found = compress_mix.mixed_types(args, source, calibration) if compress_mix.wants_mix(args) else (None, None)

    def quantize(output: Path) -> Compressed:
        return compress(source, output, kind, types=types, method=args.method, calibration=calibration, step=step)

    done = compress_transforms.written(args, source, calibration, quantize)
    if args.json:
        mixed = {} if found is None else {"mix": compress_mix.document(found)}
        print_json(_document(done) | compress_prune.document(args, source, done.path) | mixed)
        return 0
    _print(done, kind, is_mixed=found is not None)
    compress_prune.report(args, source, done.path)
    if found is not None:
        compress_mix.report(found)
    return 0


def _calibration(path: Path | None) -> Calibration | None:
    if path is None:
        return None
    from miaotui.compress.calibrate.load import load_calibration

    return load_calibration(path)


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
