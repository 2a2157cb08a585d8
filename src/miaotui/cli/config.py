"""`miaotui config`: each setting in force and where it came from; `miaotui config new-key`: a fresh API key."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miaotui.cli.output import note, print_json, print_pairs
from miaotui.cli.parsing import add_model_options, config_of
from miaotui.cli.serve_options import add_serve_options, keys_of, serve_config_of, shown
from miaotui.config import SERVE_SETTINGS, SETTINGS, ServeConfig, Setting, config_path
from miaotui.errors import ConfigError


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action",
        nargs="?",
        default="show",
        help="show (default): the settings and whose keys there are; new-key: make an API key",
    )
    parser.add_argument("--name", metavar="NAME", help="with new-key: whom the key is for")
    add_model_options(parser)
    add_serve_options(parser)


def run(args: Namespace) -> int:
    """Show the settings, or make a key."""
    if args.action == "new-key":
        return _new_key(args)
    if args.action != "show":
        raise ConfigError(f"there is nothing to do called {args.action[:80]!r}; it is show or new-key")
    config, serve = config_of(args), serve_config_of(args)
    model = {s.name: _entry(s, getattr(config, s.name), config.sources) for s in SETTINGS}
    server = {s.name: _entry(s, getattr(serve, s.name), serve.sources) for s in SERVE_SETTINGS}
    keys = _keys(serve)
    if args.json:
        print_json({"file": str(config_path()), "settings": model, "serve": server, "keys": keys})
        return 0
    for title, entries in ((f"settings ({config_path()})", model), ("settings of `miaotui serve`, [serve]", server)):
        print_pairs(
            title, [(name, f"{shown(name, entry['value'])}  ({entry['source']})") for name, entry in entries.items()]
        )
    if keys:
        print_pairs("API keys", [(key["name"] or "(no name)", f"tenant {key['tenant']}") for key in keys])
    return 0


def _keys(serve: ServeConfig) -> list[dict[str, str | None]]:
    """The names of the keys in force and the tenants they stand for; keys that cannot be used are remarked on."""
    try:
        return [{"name": key.name, "tenant": key.tenant} for key in keys_of(serve)]
    except ConfigError as error:
        note(str(error))
        return []


def _entry(setting: Setting, value: Any, sources: Mapping[str, str]) -> dict[str, Any]:
    if setting.secret:
        value = f"{len(value)} given, not shown" if value else ()
    if isinstance(value, Path):
        value = str(value)
    return {"value": value, "source": sources[setting.name], "variable": setting.variable, "meaning": setting.meaning}


def _new_key(args: Namespace) -> int:
    from miaotui.server.keys import hashed_line, new_key

    key = new_key()
    line = hashed_line(key, args.name)
    if args.json:
        print_json({"key": key, "line": line})
        return 0
    print(f"key   {key}")
    print(f"line  {line}")
    note("give the key to the client, which sends it as `Authorization: Bearer KEY`; it is kept nowhere.")
    note("put the line into the file of --api-keys; `rpm=60 tpm=10000` behind it limit requests and tokens per minute.")
    return 0
