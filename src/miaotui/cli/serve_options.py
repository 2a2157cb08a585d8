"""The flags of `miaotui serve`, made from its settings."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miaotui.cli.output import note
from miaotui.config import SERVE_SETTINGS, ServeConfig, load_serve_config
from miaotui.errors import ConfigError


def add_serve_options(parser: ArgumentParser) -> None:
    """A flag per setting; what is not given comes from environment and configuration file."""
    group = parser.add_argument_group("how to serve")
    for setting in SERVE_SETTINGS:
        if not setting.flag.startswith("--"):
            continue
        several = isinstance(setting.default, tuple)
        default = "repeat for several" if several else f"default: {shown(setting.name, setting.default)}"
        more: dict[str, Any] = {"action": "append"} if several else {}
        group.add_argument(
            setting.flag, dest=setting.name, metavar=setting.metavar, help=f"{setting.meaning} ({default})", **more
        )


def serve_config_of(args: Namespace) -> ServeConfig:
    """The server's settings with a command's flags on top."""
    return load_serve_config({setting.name: getattr(args, setting.name, None) for setting in SERVE_SETTINGS})


def shown(name: str, value: object) -> str:
    """A setting's value for people, as it could be written for a flag."""
    if value is None or value == ():
        return "none"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    if name.endswith("_bytes") and isinstance(value, int):
        for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
            if value and value % size == 0:
                return f"{value // size}{unit}"
    return str(value)


def keys_of(serve: ServeConfig) -> Sequence[Any]:
    """The API keys in force. Raises ConfigError for an unusable line; says so where others can read the file."""
    from miaotui.server.keys import parse_keys, read_keys_file

    keys = parse_keys(serve.api_keys, serve.sources["api_keys"])
    path = serve.api_keys_file
    if path is not None:
        keys += read_keys_file(path, serve.sources["api_keys_file"])
        if _others_read(path):
            note(f"others on this machine can read {path}; keep it to yourself: chmod 600 {path}")
    if len({key.digest for key in keys}) < len(keys):
        raise ConfigError("an API key is given twice; remove one of them.")
    return keys


def _others_read(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o044)
