"""`miaotui tune [MODEL]`: measure anew what is fastest for a model on this machine, and keep it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from miaotui.cli.output import note, print_json, print_pairs
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
    with open_llm(config, tune=False, drafter=None) as llm:
        loaded = llm.loaded
        largest = loaded.engine.scheduler.limits.max_tokens
        file = tuning.tuning_file(config.home, loaded.compiled, loaded.file.spec, largest)
        before = tuning.load(file)
        found = tuning.measure(
            loaded.compiled, loaded.file.spec, config.kv_dtype, max_tokens=largest, budget_s=float(args.seconds)
        )
        is_kept = tuning.save(file, found)
    if args.json:
        print_json({"model": config.model, "file": str(file) if is_kept else None, **asdict(found)})
        return 0
    changed = "" if before is None or before.choices == found.choices else " (others than before)"
    print_pairs(f"{config.model}: choices{changed}", tuning.describe(found))
    if not found.is_complete:
        note("miaotui: other processes took the processors; what is missing is measured by the next start")
    if not is_kept:
        note(f"miaotui: {file} cannot be written, so that the next start measures again; make it writable")
        return 1
    print_pairs("kept", [("file", str(file)), ("measured in", f"{found.seconds:.1f} s")])
    return 0
