"""`miaotui tune [MODEL]`: measure anew what is fastest for a model on this machine, and keep it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from miaotui.cli.output import print_json, print_pairs
from miaotui.cli.parsing import add_model_options, at_least, config_of, open_llm


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", nargs="?", help="name or path of a model")
    parser.add_argument(
        "--seconds", type=at_least(1), default=6, metavar="N", help="measure for at most so long (default 6)"
    )
    add_model_options(parser)


def run(args: Namespace) -> int:
    """Measure, keep, show."""
    from miaotui.engine import tuning

    config = config_of(args)
    with open_llm(config, tune=False) as llm:
        loaded = llm.loaded
        file = tuning.tuning_file(config.home, loaded.compiled, loaded.file.spec)
        before = tuning.load(file)
        found = tuning.measure(
            loaded.compiled, loaded.file.spec, config.kv_dtype, max_tokens=512, budget_s=float(args.seconds)
        )
        tuning.save(file, found)
    if args.json:
        print_json({"model": config.model, "file": str(file), **asdict(found)})
        return 0
    changed = "" if before is None or before.choices == found.choices else " (others than before)"
    print_pairs(f"{config.model}: choices{changed}", tuning.describe(found))
    print_pairs("kept", [("file", str(file)), ("measured in", f"{found.seconds:.1f} s")])
    return 0
