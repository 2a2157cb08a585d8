"""`miaotui pull NAME`: make a model available."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from miaotui.cli.output import print_json


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="smollm2:135m, hf:ORG/REPO[:FILE.gguf], or a path")


def run(args: Namespace) -> int:
    """Fetch the model if it is not here; its path on standard output, progress on standard error."""
    from miaotui.formats.store import pull
    from miaotui.formats.store_progress import Progress

    path = pull(args.model, Progress())
    if args.json:
        print_json({"model": args.model, "path": str(path)})
    else:
        print(path)
    return 0
