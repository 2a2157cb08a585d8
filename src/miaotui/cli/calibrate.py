"""`miaotui calibrate MODEL -o FILE --text FILE`: what a model's matrices are fed, for compressing it well."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from miaotui.cli.output import note, peak_memory_bytes, print_json
from miaotui.cli.parsing import at_least, config_of

if TYPE_CHECKING:
    from miaotui.compress.calibration import Calibration
    from miaotui.formats import ModelFile

DEFAULT_TOKENS = 16384


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="name or path of a model")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", type=Path, help="the file to write (.gguf)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", metavar="FILE", type=Path, help="UTF-8 text that the model reads")
    what.add_argument("--prompts", metavar="JSONL", type=Path, help='your prompts, a line each: {"prompt": "…"}')
    parser.add_argument(
        "--tokens",
        type=at_least(1),
        metavar="N",
        default=DEFAULT_TOKENS,
        help=f"read so many (default {DEFAULT_TOKENS})",
    )
    parser.add_argument("--hessians", action="store_true", help="keep those, too: gigabytes, but computed only once")
    parser.add_argument(
        "--imatrix", action="store_true", help="write only what llama.cpp's files hold; in its older format as .dat"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")
    parser.add_argument("--threads", metavar="N", help="1 to 1024 (default: the CPUs this process may use)")


def run(args: Namespace) -> int:
    """The file appears when it is whole."""
    config_of(args)
    from miaotui.compress.calibrate import CollectOptions, collect
    from miaotui.compress.calibrate.save import save_calibration, save_imatrix
    from miaotui.errors import ConfigError
    from miaotui.formats import open_model
    from miaotui.formats.store import resolve

    if args.imatrix and args.hessians:
        raise ConfigError("--imatrix files hold no Hessians; leave one of --imatrix and --hessians out.")
    begin = time.monotonic()
    path = resolve(args.model)
    check_output(args, path)
    file = open_model(path)
    quiet = args.json or not sys.stderr.isatty()
    progress = None if quiet else shower("reading, layer", begin)
    options = CollectOptions(hessians=args.hessians)
    calibration = collect(file, sequences(args, file), options=options, progress=progress)
    dataset = (args.text or args.prompts).name
    if args.imatrix:
        save_imatrix(calibration, args.output, dataset=dataset)
    else:
        step = None if quiet else shower("writing, tensor", begin)
        save_calibration(calibration, args.output, hessians=args.hessians, dataset=dataset, step=step)
    if not quiet:
        note("")
    _tell(args, calibration, time.monotonic() - begin)
    return 0


def check_output(args: Namespace, model: Path) -> None:
    """Raises OutputError where nothing can be written to `args.output`, or what is there is not to be replaced."""
    from miaotui.errors import OutputError

    output: Path = args.output
    if not output.parent.is_dir():
        raise OutputError(f"{output.parent}: is no folder; make it first, or write elsewhere.")
    if output.exists() and output.samefile(model):
        raise OutputError(f"{output}: is the model itself; write elsewhere.")
    if output.exists() and not args.force:
        raise OutputError(f"{output}: exists; give --force to replace it, or another name.")


def sequences(args: Namespace, file: ModelFile) -> list[list[int]]:
    """Tokens of `args.text` or `args.prompts`, at most `args.tokens`; encoders read a text line by line."""
    from miaotui.cli.text import read_text
    from miaotui.compress.calibrate.collect import STEP_TOKENS
    from miaotui.compress.calibrate.prompts import read_prompts
    from miaotui.compress.calibrate.text import texts_for_encoder, windows_of_prompts, windows_of_text
    from miaotui.formats.tokenizer import Tokenizer
    from miaotui.formats.wordpiece import TextEncoder

    if file.spec.is_encoder:
        texts = read_text(args.text).splitlines() if args.prompts is None else read_prompts(args.prompts)
        encoder = TextEncoder.from_model(file)
        return texts_for_encoder(encoder, texts, tokens=args.tokens, max_tokens=file.spec.longest_text)
    tokenizer = Tokenizer.from_model(file)
    if args.prompts is None:
        return windows_of_text(tokenizer, read_text(args.text), tokens=args.tokens)
    return windows_of_prompts(tokenizer, read_prompts(args.prompts), tokens=args.tokens, step_tokens=STEP_TOKENS)


def shower(what: str, begin: float) -> Callable[[int, int], None]:
    """A progress line on standard error."""

    def show(done: int, total: int) -> None:
        spent = time.monotonic() - begin
        print(f"\r{what} {done}/{total}, {spent:.0f} s \r", end="", file=sys.stderr, flush=True)

    return show


def _tell(args: Namespace, calibration: Calibration, seconds: float) -> None:
    influence = [] if calibration.influence is None else [round(float(x), 6) for x in calibration.influence]
    if args.json:
        print_json(
            {
                "output": str(args.output),
                "bytes": args.output.stat().st_size,
                "tokens": calibration.tokens,
                "matrices": len(calibration.inputs),
                "influence": influence,
                "digest": calibration.digest,
                "seconds": round(seconds, 2),
                "peak_memory_bytes": peak_memory_bytes(),
            }
        )
        return
    from miaotui.formats.store_progress import format_bytes

    size = format_bytes(args.output.stat().st_size)
    print(
        f"{args.output}: {size}, {len(calibration.inputs)} matrices over {calibration.tokens} tokens, {seconds:.1f} s"
    )
    least = sorted(range(len(influence)), key=influence.__getitem__)[:5]
    print("layers that change least: " + ", ".join(f"{layer} ({influence[layer]:.4f})" for layer in least))
