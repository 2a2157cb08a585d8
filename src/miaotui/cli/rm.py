"""`miaotui rm NAME`: delete a downloaded model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from miaotui.cli.output import note, print_json


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="a name that `miaotui ls` shows")


def run(args: Namespace) -> int:
    """Delete it, and what an interrupted download of it left."""
    from miaotui.formats.store import ModelStore
    from miaotui.formats.store_progress import format_bytes

    freed_bytes = ModelStore.default().remove(args.model)
    if args.json:
        print_json({"model": args.model, "freed_bytes": freed_bytes})
    else:
        note(f"deleted {args.model}, {format_bytes(freed_bytes)} are free again")
    return 0
