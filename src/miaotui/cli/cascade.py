"""`miaotui cascade SMALL LARGE --gate gate.json [PROMPT]`: the small model's answer where it suffices."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miaotui.cli.cascade_models import add_arguments as add_models
from miaotui.cli.cascade_models import open_all
from miaotui.cli.output import note, print_json
from miaotui.cli.parsing import config_of
from miaotui.cli.text import read_text
from miaotui.errors import InvalidRequestError

if TYPE_CHECKING:
    from miaotui.engine.results import Completion

EXAMPLES = """
the gate is made once, from labelled rows: miaotui cascade calibrate --help

examples:
  miaotui cascade run small.gguf large.gguf --gate gate.json "A film to see twice."
  miaotui cascade run SMALL LARGE --gate gate.json --lines reviews.txt --json
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class, parser.epilog = RawDescriptionHelpFormatter, EXAMPLES
    parser.add_argument("--gate", required=True, type=Path, metavar="FILE", help="what `cascade calibrate` wrote")
    parser.add_argument("--lines", metavar="FILE", help="a prompt a line; - is standard input")
    parser.add_argument("--quiet", action="store_true", help="no line about which model answered")
    add_models(parser)
    parser.add_argument("prompt", nargs="*", help="the text; it comes behind the gate's instruction")


def run(args: Namespace) -> int:
    """Answers on standard output, a line each with --lines; which model gave them on standard error."""
    from miaotui.adaptive.cascade import Cascade, load_gate

    gate = load_gate(args.gate)
    prompts = _prompts(args)
    config = config_of(args)
    models = open_all(config, [args.small, args.large])
    try:
        cascade = Cascade(models, [gate])
        done = cascade.generate(prompts)
    finally:
        for llm in models:
            llm.close()
    if args.json:
        print_json([_as_json(one) for one in done])
        return 0
    for one in done:
        print(one.text if args.lines is None else " ".join(one.text.split()))
        if not args.quiet:
            seconds = sum(stage.seconds for stage in one.receipt.stages)
            note(f"[{one.receipt.why} · {seconds:.2f} s]")
    return 0


def _prompts(args: Namespace) -> list[str]:
    if bool(args.prompt) == (args.lines is not None):
        raise InvalidRequestError("give a prompt or --lines FILE, one of the two.")
    if args.lines is None:
        return [" ".join(args.prompt)]
    prompts = [line for line in read_text(args.lines).splitlines() if line.strip()]
    if not prompts:
        raise InvalidRequestError(f"{args.lines} is empty; give a prompt a line.")
    return prompts


def _as_json(completion: Completion) -> dict[str, Any]:
    receipt = completion.receipt
    return {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "why": receipt.why,
        "stages": [asdict(stage) for stage in receipt.stages],
        "drafted_tokens": receipt.drafted_tokens,
        "accepted_tokens": receipt.accepted_tokens,
    }
