"""Settings from four places: command-line flag, else environment variable, else TOML file, else default.

The file is `$XDG_CONFIG_HOME/miaotui/config.toml` (normally `~/.config/miaotui/config.toml`) with one key per setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from miaotui.core import ACTIVATIONS, Activations
from miaotui.errors import ConfigError

_SIZE_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name as flag and TOML key, its environment variable, how its value is read, and its default."""

    name: str
    variable: str
    parse: Callable[[object], object]
    default: object
    meaning: str


@dataclass(frozen=True, slots=True)
class Config:
    """Values in force; `sources` says for each name where its value came from."""

    home: Path
    model: str
    threads: int | None
    isa: str | None
    activations: Activations
    kv_dtype: str
    context_length: int | None
    kv_memory_bytes: int | None
    offline: bool
    pack_cache_bytes: int
    tune: bool
    sources: Mapping[str, str]


def _integer(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def _choice(*options: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"one of {', '.join(options)}")
        return value

    return parse


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a text that is not empty")
    return value.strip()


def _folder(value: object) -> Path:
    folder = Path(_text(str(value) if isinstance(value, Path) else value)).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError("the path of a folder")
    return folder.absolute()


def _truth(value: object) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError("1 or 0 (also true, false, yes, no, on, off)")
    return words[str(value).lower()]


def parse_bytes(value: object) -> int:
    """Bytes of `268435456`, `"256MiB"` or `"256M"`; units are powers of 1024.

    Raises:
        ValueError: the value is no such size, or is not positive.
    """
    text = str(value).strip().lower() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    digits = text.rstrip("kmgtib")
    unit = text[len(digits) :].removesuffix("ib").removesuffix("b") if len(text) > len(digits) else ""
    try:
        size = int(float(digits) * _SIZE_UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if not 0 < size < 2**63:
        raise ValueError("a size such as 268435456, 256MiB or 1.5G")
    return size


def _limit(value: object) -> int:
    return 0 if value == 0 or str(value).strip() == "0" else parse_bytes(value)


def default_home(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/miaotui`, or `~/.cache/miaotui` where that is unset or relative (XDG base directories, 0.8)."""
    return _xdg(environ, "XDG_CACHE_HOME", ".cache") / "miaotui"


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where the TOML file is looked for; it need not exist."""
    return _xdg(os.environ if environ is None else environ, "XDG_CONFIG_HOME", ".config") / "miaotui" / "config.toml"


def _xdg(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    folder = environ.get(variable, "")
    return Path(folder) if os.path.isabs(folder) else Path.home() / fallback


SETTINGS = (
    Setting("home", "MIAOTUI_HOME", _folder, None, "folder of downloaded models and caches"),
    Setting("model", "MIAOTUI_MODEL", _text, "smollm2:135m", "model used when none is named"),
    Setting("threads", "MIAOTUI_THREADS", _integer(1, 1024), None, "threads of the native core"),
    Setting("isa", "MIAOTUI_ISA", _text, None, "instruction-set tier to force"),
    Setting("activations", "MIAOTUI_ACTIVATIONS", _choice(*ACTIVATIONS), "int16", "type activations are computed in"),
    Setting(
        "kv_dtype", "MIAOTUI_KV_DTYPE", _choice("int16", "f16", "bf16", "int8", "f32"), "int16", "type of the KV cache"
    ),
    Setting("context_length", "MIAOTUI_CONTEXT_LENGTH", _integer(16, 2**24), None, "most tokens of one sequence"),
    Setting("kv_memory_bytes", "MIAOTUI_KV_MEMORY", parse_bytes, None, "memory for the KV cache"),
    Setting(
        "pack_cache_bytes", "MIAOTUI_PACK_CACHE", _limit, 16 << 30, "most bytes of packed weights kept on disk, or 0"
    ),
    Setting("tune", "MIAOTUI_TUNE", _truth, True, "measure once what is fastest on this machine"),
    Setting("offline", "MIAOTUI_OFFLINE", _truth, False, "never use the network"),
)


def load_config(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The settings in force.

    Args:
        flags: values given on the command line, by setting name; None means not given.
        environ: the environment, `os.environ` if omitted.

    Raises:
        ConfigError: a value cannot be used, or the file is unreadable or has an unknown key; the source is named.
    """
    environ = os.environ if environ is None else environ
    file = config_path(environ)
    table = _read_toml(file)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        value, source = _first_given(setting, flags or {}, environ, table, file)
        sources[setting.name] = source
        if source == "default":
            values[setting.name] = default_home(environ) if setting.name == "home" else value
            continue
        try:
            values[setting.name] = setting.parse(value)
        except ValueError as error:
            raise ConfigError(f"{source} is {value!r}; {setting.name} ({setting.meaning}) must be {error}") from None
    return Config(**values, sources=sources)  # type: ignore[arg-type]


def _first_given(
    setting: Setting, flags: Mapping[str, object], environ: Mapping[str, str], table: Mapping[str, object], file: Path
) -> tuple[object, str]:
    if flags.get(setting.name) is not None:
        return flags[setting.name], "flag --" + setting.name.removesuffix("_bytes").replace("_", "-")
    if environ.get(setting.variable):  # set but empty counts as unset
        return environ[setting.variable], f"environment variable {setting.variable}"
    if setting.name in table:
        return table[setting.name], f"key {setting.name!r} of {file}"
    return setting.default, "default"


def _read_toml(file: Path) -> Mapping[str, object]:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; fix its permissions or remove it") from None
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{file} is larger than {_MAX_CONFIG_BYTES} bytes; it should hold a few lines")
    import tomllib  # most starts have no file to parse

    try:
        table = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    names = [setting.name for setting in SETTINGS]
    for key in table:
        if key not in names:
            close = get_close_matches(key, names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
            raise ConfigError(f"{file} has an unknown key {key!r}; {hint}")
    return table


def export_native_settings(config: Config) -> None:
    """Hand `threads` and `isa` to the native core, which reads its environment when it is first imported.

    Mutates `os.environ`; call it before anything imports `miaotui._native`.
    """
    if config.threads is not None:
        os.environ["MIAOTUI_THREADS"] = str(config.threads)
    if config.isa is not None:
        os.environ["MIAOTUI_ISA"] = config.isa
