"""`miaotui ls`: the models that are here."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from miaotui.cli.output import note, print_json, print_table


def add_arguments(parser: ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(args: Namespace) -> int:
    """List the store."""
    from miaotui.formats.store import ModelStore
    from miaotui.formats.store_progress import format_bytes

    store = ModelStore.default()
    models = store.models()
    if args.json:
        fields = ("name", "size_bytes", "source")
        print_json([{f: getattr(m, f) for f in fields} | {"path": str(m.path)} for m in models])
    elif models:
        print_table(
            ("NAME", "SIZE", "SOURCE", "PATH"),
            [(m.name, format_bytes(m.size_bytes), m.source, str(m.path)) for m in models],
        )
    else:
        note(f"no models in {store.folder}; fetch one with: miaotui pull {next(iter(store.catalog))}")
    return 0
