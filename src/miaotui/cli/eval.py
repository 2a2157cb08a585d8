"""`miaotui eval ppl MODEL --text FILE`: perplexity by the common protocol."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from miaotui.cli.output import print_json
from miaotui.cli.parsing import add_model_options, at_least, config_of, open_llm
from miaotui.cli.text import read_text

LOGIT_ROWS = 256
"""Scored positions of one window of 512 at a time, so that a window is one step."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("measure", choices=["ppl"], help="ppl: perplexity in windows of 512, second half scored")
    parser.add_argument("model", help="name or path of a model")
    parser.add_argument("--text", required=True, metavar="FILE", help="UTF-8 text; - reads standard input")
    parser.add_argument("--windows", type=at_least(1), metavar="N", help="only the first N windows")
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Measure, with the figure so far on standard error."""
    text = read_text(args.text)
    config = config_of(args)
    from miaotui.engine.perplexity import evaluate_perplexity

    with open_llm(config, max_logit_rows=LOGIT_ROWS, drafter=None) as llm:
        result = evaluate_perplexity(llm, text, num_windows=args.windows, progress=_show_progress)
    if args.json:
        print_json(asdict(result))
    else:
        print(f"perplexity {result.ppl:.4f} ± {result.stderr:.4f} over {result.windows} windows of 512 tokens")
    return 0


def _show_progress(done: int, total: int, ppl: float) -> None:
    if sys.stderr.isatty():
        print(
            f"\r{done}/{total} windows, perplexity {ppl:.4f}",
            end="\n" if done == total else "",
            file=sys.stderr,
            flush=True,
        )
