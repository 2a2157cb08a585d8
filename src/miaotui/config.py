"""Settings from four places: command-line flag, else environment variable, else TOML file, else default.

The file is `$XDG_CONFIG_HOME/miaotui/config.toml` (normally `~/.config/miaotui/config.toml`) with one key per setting;
those of `miaotui serve` are in its table `[serve]`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from miaotui.config_values import (
    choice,
    file,
    folder,
    integer,
    limit_bytes,
    parse_bytes,
    real,
    seconds,
    text,
    texts,
    truth,
)
from miaotui.core import ACTIVATIONS, Activations
from miaotui.errors import ConfigError

__all__ = ["SERVE_SETTINGS", "SETTINGS", "Config", "ServeConfig", "Setting", "config_path", "load_config",
           "load_serve_config", "parse_bytes"]  # fmt: skip

_MAX_CONFIG_BYTES = 1 << 20

LogFormat = Literal["text", "json", "none"]
Near = Literal["off", "guarded"]
DraftingChoice = Literal["off", "lookup", "past"]
PlanningChoice = Literal["fixed", "adaptive"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its TOML key, its environment variable, how its value is read, its default and its meaning.

    argument: the flag that sets it, or the name of a command's argument; derived from `name` where it is left out.
    secret: its value is never shown.
    """

    name: str
    variable: str
    parse: Callable[[object], object]
    default: object
    meaning: str
    argument: str = ""
    metavar: str = "N"
    secret: bool = False

    @property
    def flag(self) -> str:
        """How it is set on the command line."""
        name = self.name.removesuffix("_bytes").removesuffix("_s")
        return self.argument or "--" + name.replace("_", "-")


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
    prefix_cache_bytes: int
    tune: bool
    drafting: DraftingChoice
    past_answers_bytes: int
    draft_model: str | None
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The same for `miaotui serve`. Rates are per minute; times end in _s, sizes in _bytes; None means no limit."""

    host: str
    port: int
    host_names: tuple[str, ...]
    model_name: str | None
    embed_model: str | None
    small_model: str | None
    gate: Path | None
    api_keys_file: Path | None
    api_keys: tuple[str, ...]
    max_sequences: int
    max_waiting: int
    max_connections: int
    max_body_bytes: int
    rate_limit_requests: int | None
    rate_limit_tokens: int | None
    header_timeout_s: float
    body_timeout_s: float
    send_timeout_s: float
    idle_timeout_s: float
    shutdown_timeout_s: float
    exit_when_hung_s: float | None
    log_format: LogFormat
    cache: tuple[str, ...]
    cache_memory_bytes: int
    cache_store_bytes: int
    cache_ttl_s: float | None
    cache_secret: str | None
    near: Near
    near_delta: float
    planning: PlanningChoice
    sources: Mapping[str, str]


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
    Setting("home", "MIAOTUI_HOME", folder, None, "folder of downloaded models and caches"),
    Setting("model", "MIAOTUI_MODEL", text, "smollm2:135m", "model used when none is named", argument="MODEL"),
    Setting("threads", "MIAOTUI_THREADS", integer(1, 1024), None, "threads of the native core"),
    Setting("isa", "MIAOTUI_ISA", text, None, "instruction-set tier to force"),
    Setting("activations", "MIAOTUI_ACTIVATIONS", choice(*ACTIVATIONS), "int16", "type activations are computed in"),
    Setting(
        "kv_dtype", "MIAOTUI_KV_DTYPE", choice("int16", "f16", "bf16", "int8", "f32"), "int16", "type of the KV cache"
    ),
    Setting("context_length", "MIAOTUI_CONTEXT_LENGTH", integer(16, 2**24), None, "most tokens of one sequence"),
    Setting("kv_memory_bytes", "MIAOTUI_KV_MEMORY", parse_bytes, None, "memory for the KV cache"),
    Setting(
        "pack_cache_bytes",
        "MIAOTUI_PACK_CACHE",
        limit_bytes,
        16 << 30,
        "most bytes of packed weights kept on disk, or 0",
        argument="--no-pack-cache",
    ),
    Setting(
        "prefix_cache_bytes",
        "MIAOTUI_PREFIX_CACHE",
        limit_bytes,
        0,
        "most bytes of KV pages kept on disk across restarts, or 0",
    ),
    Setting("tune", "MIAOTUI_TUNE", truth, True, "measure once what is fastest on this machine"),
    Setting(
        "drafting",
        "MIAOTUI_DRAFTING",
        choice("off", "lookup", "past"),
        "off",
        "guess tokens from what was written before, so that a step reads several: the same answers; past: from earlier"
        " answers, too",
    ),
    Setting(
        "past_answers_bytes",
        "MIAOTUI_PAST_ANSWERS",
        parse_bytes,
        32 << 20,
        "memory for earlier answers that tokens are guessed from with `drafting` past",
    ),
    Setting(
        "draft_model",
        "MIAOTUI_DRAFT_MODEL",
        text,
        None,
        "smaller model of the same vocabulary that guesses tokens where this pays: the same answers",
        metavar="MODEL",
    ),
    Setting("offline", "MIAOTUI_OFFLINE", truth, False, "never use the network"),
)

SERVE_SETTINGS = (
    Setting("host", "MIAOTUI_HOST", text, "127.0.0.1", "address to listen on", metavar="ADDRESS"),
    Setting("port", "MIAOTUI_PORT", integer(0, 65535), 8000, "port to listen on; 0: a free one"),
    Setting(
        "host_names",
        "MIAOTUI_HOST_NAMES",
        texts,
        (),
        "names that clients may reach the server by",
        argument="--host-name",
        metavar="NAME",
    ),
    Setting("model_name", "MIAOTUI_MODEL_NAME", text, None, "what clients call the model", metavar="NAME"),
    Setting(
        "embed_model",
        "MIAOTUI_EMBED_MODEL",
        text,
        None,
        "text encoder that makes embeddings beside the model, such as minilm",
        metavar="MODEL",
    ),
    Setting(
        "small_model",
        "MIAOTUI_SMALL_MODEL",
        text,
        None,
        "model that is asked first where --gate was calibrated for that",
        metavar="MODEL",
    ),
    Setting(
        "gate",
        "MIAOTUI_GATE",
        file,
        None,
        "says which of its answers suffice (`miaotui cascade calibrate` makes one)",
        metavar="FILE",
    ),
    Setting(
        "api_keys_file",
        "MIAOTUI_API_KEYS_FILE",
        file,
        None,
        "file with an API key per line; each is a tenant (`miaotui config new-key` makes one)",
        argument="--api-keys",
        metavar="FILE",
    ),
    Setting(
        "api_keys",
        "MIAOTUI_API_KEYS",
        texts,
        (),
        "API keys, written as in the file; there is no flag, which others could read",
        argument="-",
        secret=True,
    ),
    Setting("max_sequences", "MIAOTUI_MAX_SEQUENCES", integer(1, 512), 16, "answers that run together"),
    Setting(
        "max_waiting",
        "MIAOTUI_MAX_WAITING",
        integer(0, 10**6),
        64,
        "requests that may wait; more are told to come back",
    ),
    Setting("max_connections", "MIAOTUI_MAX_CONNECTIONS", integer(1, 65536), 1000, "connections open at once"),
    Setting("max_body_bytes", "MIAOTUI_MAX_BODY", parse_bytes, 10 << 20, "longest request", metavar="SIZE"),
    Setting(
        "rate_limit_requests", "MIAOTUI_RATE_LIMIT_REQUESTS", integer(1, 10**9), None, "requests a key has per minute"
    ),
    Setting("rate_limit_tokens", "MIAOTUI_RATE_LIMIT_TOKENS", integer(1, 10**12), None, "tokens a key has per minute"),
    Setting(
        "header_timeout_s",
        "MIAOTUI_HEADER_TIMEOUT",
        seconds(0.1, 3600),
        8.0,
        "a request's headers take at most so long",
        metavar="S",
    ),
    Setting(
        "body_timeout_s",
        "MIAOTUI_BODY_TIMEOUT",
        seconds(0.1, 3600),
        25.0,
        "its body takes at most so long",
        metavar="S",
    ),
    Setting(
        "send_timeout_s",
        "MIAOTUI_SEND_TIMEOUT",
        seconds(0.1, 3600),
        30.0,
        "a client may leave its reply unread for so long",
        metavar="S",
    ),
    Setting(
        "idle_timeout_s",
        "MIAOTUI_IDLE_TIMEOUT",
        seconds(0, 3600),
        15.0,
        "a connection may stay open unused for so long",
        metavar="S",
    ),
    Setting(
        "shutdown_timeout_s",
        "MIAOTUI_SHUTDOWN_TIMEOUT",
        seconds(0, 3600),
        30.0,
        "answers under way have so long to end when the server is told to",
        metavar="S",
    ),
    Setting(
        "exit_when_hung_s",
        "MIAOTUI_EXIT_WHEN_HUNG",
        seconds(0, 86400),
        None,
        "end with exit code 70 when a step has hung for so long, for a process supervisor to start anew",
        metavar="S",
    ),
    Setting(
        "log_format",
        "MIAOTUI_LOG_FORMAT",
        choice("text", "json", "none"),
        "text",
        "a line per request on standard error: text, json or none",
        metavar="FORMAT",
    ),
    Setting(
        "cache",
        "MIAOTUI_CACHE",
        texts,
        (),
        "keep answers and give them again: memory, sqlite, sqlite:FILE, postgresql://… or redis://…; of several stores,"
        " the fastest first",
        metavar="STORE",
    ),
    Setting(
        "cache_memory_bytes",
        "MIAOTUI_CACHE_MEMORY",
        parse_bytes,
        64 << 20,
        "most bytes of rows kept in memory",
        metavar="SIZE",
    ),
    Setting(
        "cache_store_bytes",
        "MIAOTUI_CACHE_STORE",
        parse_bytes,
        4 << 30,
        "most bytes of answers kept in each store; other rows may take half as much again",
        metavar="SIZE",
    ),
    Setting("cache_ttl_s", "MIAOTUI_CACHE_TTL", seconds(1, 10**9), None, "kept answers hold for so long", metavar="S"),
    Setting(
        "cache_secret",
        "MIAOTUI_CACHE_SECRET",
        text,
        None,
        "what kept answers are sealed with, the same for all servers on one store; there is no flag, which others could"
        " read; if not given, a file in the home folder",
        argument="-",
        secret=True,
    ),
    Setting(
        "near",
        "MIAOTUI_NEAR",
        choice("off", "guarded"),
        "off",
        "guarded: give kept answers to questions of the same meaning, too, if all guards let them pass; needs"
        " --cache and --embed-model",
        metavar="off|guarded",
    ),
    Setting(
        "near_delta",
        "MIAOTUI_NEAR_DELTA",
        real(1e-6, 0.5),
        0.01,
        "probability of a wrong answer that such a hit may have",
        metavar="P",
    ),
    Setting(
        "planning",
        "MIAOTUI_PLANNING",
        choice("fixed", "adaptive"),
        "fixed",
        "adaptive: each request takes the path that is expected to cost least",
        metavar="fixed|adaptive",
    ),
)
SERVE_TABLE = "serve"


def load_config(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The settings in force.

    Args:
        flags: values given on the command line, by setting name; None means not given.
        environ: the environment, `os.environ` if omitted.

    Raises:
        ConfigError: a value cannot be used, or the file is unreadable or has an unknown key; the source is named.
    """
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    values, sources = _resolve(SETTINGS, flags or {}, environ, _read_toml(path), f"of {path}")
    if sources["home"] == "default":
        values["home"] = default_home(environ)
    return Config(**values, sources=sources)  # type: ignore[arg-type]


def load_serve_config(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> ServeConfig:
    """The settings of `miaotui serve` in force. Arguments and errors are those of `load_config`."""
    environ = os.environ if environ is None else environ
    path = config_path(environ)
    table = _read_toml(path).get(SERVE_TABLE, {})
    where = f"in [{SERVE_TABLE}] of {path}"
    values, sources = _resolve(SERVE_SETTINGS, flags or {}, environ, table, where)  # type: ignore[arg-type]
    return ServeConfig(**values, sources=sources)  # type: ignore[arg-type]


def _resolve(
    settings: tuple[Setting, ...],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    table: Mapping[str, object],
    where: str,
) -> tuple[dict[str, object], dict[str, str]]:
    """Values and sources by name. Raises ConfigError for a value that cannot be used, naming what the user wrote."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for setting in settings:
        value, source = _first_given(setting, flags, environ, table, where)
        sources[setting.name] = source
        if source == "default":
            values[setting.name] = value
            continue
        try:
            values[setting.name] = setting.parse(value)
        except ValueError as error:
            shown = "unusable" if setting.secret else repr(value)
            name = setting.flag if source.endswith(setting.flag) else setting.name
            raise ConfigError(f"{source} is {shown}; {name} ({setting.meaning}) must be {error}") from None
    return values, sources


def _first_given(
    setting: Setting, flags: Mapping[str, object], environ: Mapping[str, str], table: Mapping[str, object], where: str
) -> tuple[object, str]:
    if flags.get(setting.name) is not None:
        kind = "flag" if setting.flag.startswith("--") else "argument"
        return flags[setting.name], f"{kind} {setting.flag}"
    if environ.get(setting.variable):  # set but empty counts as unset
        return environ[setting.variable], f"environment variable {setting.variable}"
    if setting.name in table:
        return table[setting.name], f"key {setting.name!r} {where}"
    return setting.default, "default"


def _read_toml(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; fix its permissions or remove it") from None
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_CONFIG_BYTES} bytes; it should hold a few lines")
    import tomllib  # most starts have no file to parse

    try:
        table = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    serve = table.get(SERVE_TABLE, {})
    if not isinstance(serve, dict):
        raise ConfigError(f"{path} has a key {SERVE_TABLE!r}; it must be a table, [{SERVE_TABLE}]")
    _check_keys(path, [key for key in table if key != SERVE_TABLE], SETTINGS, SERVE_SETTINGS, f"under [{SERVE_TABLE}]")
    _check_keys(path, serve, SERVE_SETTINGS, SETTINGS, "before the first table")
    return table


def _check_keys(
    path: Path, keys: Iterable[str], settings: tuple[Setting, ...], others: tuple[Setting, ...], elsewhere: str
) -> None:
    """Raise ConfigError for a key that is no setting; what is one at another place is said to belong there."""
    names = [setting.name for setting in settings]
    for key in keys:
        if key in names:
            continue
        close = get_close_matches(key, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
        if any(setting.name == key for setting in others):
            hint = f"it belongs {elsewhere}"
        raise ConfigError(f"{path} has an unknown key {key!r}; {hint}")


def export_native_settings(config: Config) -> None:
    """Hand `threads` and `isa` to the native core, which reads its environment when it is first imported.

    Mutates `os.environ`; call it before anything imports `miaotui._native`.
    """
    if config.threads is not None:
        os.environ["MIAOTUI_THREADS"] = str(config.threads)
    if config.isa is not None:
        os.environ["MIAOTUI_ISA"] = config.isa
