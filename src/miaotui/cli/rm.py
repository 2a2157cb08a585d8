"""`miaotui rm NAME`: delete a downloaded model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from miaotui.cli.output import note, print_json
from miaotui.errors import MiaotuiError

if TYPE_CHECKING:
    from miaotui.formats.store import ModelStore


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="a name that `miaotui ls` shows")


def run(args: Namespace) -> int:
    """Delete it, and what an interrupted download of it left."""
    from miaotui.formats.store import ModelStore
    from miaotui.formats.store_progress import format_bytes

    store = ModelStore.default()
    freed_bytes = _forget_packed(store, args.model) + store.remove(args.model)
    if args.json:
        print_json({"model": args.model, "freed_bytes": freed_bytes})
    else:
        note(f"deleted {args.model}, {format_bytes(freed_bytes)} are free again")
    return 0


def _forget_packed(store: ModelStore, name: str) -> int:
    """Remove the packed weights kept of a model; the bytes that became free."""
    from miaotui.config import load_config
    from miaotui.formats import open_model
    from miaotui.graph.pack_cache import PackCache

    try:
        weights = open_model(store.resolve_name(name)).weights
    except MiaotuiError:
        return 0  # what is not here, or damaged, was never packed
    return PackCache(load_config().home / "packed", 0).forget(weights)
