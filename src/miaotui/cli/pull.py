"""`miaotui pull NAME`: make a model available."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from miaotui.cli.output import print_json


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="smollm2:135m, hf:ORG/REPO[:FILE.gguf], or a path")


def run(args: Namespace) -> int:
    """Fetch the model if it is not here, look into a file of the user's own; path on standard output."""
    from miaotui.formats import open_model
    from miaotui.formats.store import ModelStore
    from miaotui.formats.store_progress import Progress

    store = ModelStore.default()
    path = store.pull(args.model, Progress())
    if not path.is_relative_to(store.folder):  # a file of the user's own, which nobody has looked into yet
        open_model(path)
    if args.json:
        print_json({"model": args.model, "path": str(path)})
    else:
        print(path)
    return 0
