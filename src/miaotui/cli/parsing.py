"""What the subcommands' parsers have in common."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from miaotui.cli.output import note

if TYPE_CHECKING:
    from pathlib import Path

    from miaotui.config import Config
    from miaotui.core import Activations
    from miaotui.engine.embedder import Embedder
    from miaotui.engine.llm import LLM


class _Parser(ArgumentParser):
    """Wrong usage is one sentence, as every other problem is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"miaotui: {message}; see {self.prog} --help\n")


def whole(text: str) -> int:
    """A flag's value that must be a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"it must be a whole number, not {text[:80]!r}") from None


def number(text: str) -> float:
    """A flag's value that must be a number."""
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"it must be a number, not {text[:80]!r}") from None


def at_least(least: int) -> Callable[[str], int]:
    """The reader of a flag's value that must be a whole number and not below `least`."""

    def read(text: str) -> int:
        if (value := whole(text)) < least:
            raise ArgumentTypeError(f"it must be at least {least}, not {value!s:.40}")
        return value

    return read


def make_parser(name: str, meaning: str) -> ArgumentParser:
    """The parser of one subcommand, with `--json` already there."""
    parser = _Parser(prog=f"miaotui {name}", description=meaning[0].upper() + meaning[1:] + ".", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def add_model_options(parser: ArgumentParser) -> None:
    """Flags for how a model is run; defaults come from environment and configuration file."""
    group = parser.add_argument_group("how to run the model")
    group.add_argument(
        "--activations", metavar="TYPE", help="int16 (default), int8 (faster, less exact) or float32 (slow)"
    )
    group.add_argument("--kv-dtype", metavar="TYPE", help="type of the KV cache: int16 (default), f16, bf16, int8, f32")
    group.add_argument("--context-length", metavar="N", help="most tokens of question and answer together")
    group.add_argument("--kv-memory", metavar="SIZE", help="memory for the KV cache, such as 256MiB")
    group.add_argument(
        "--threads", metavar="N", help="1 to 1024 (default: the CPUs this process may use; more are slower)"
    )
    group.add_argument(
        "--no-pack-cache", action="store_true", help="neither keep packed weights on disk nor use those kept"
    )
    group.add_argument(
        "--prefix-cache", metavar="SIZE", help="keep what prompts begin with on disk for the next start (default 0)"
    )
    group.add_argument(
        "--drafting",
        metavar="HOW",
        help="lookup: guess tokens from what was written before; past: from earlier answers, too; off (default)",
    )
    group.add_argument(
        "--past-answers", metavar="SIZE", help="memory for earlier answers that tokens are guessed from (default 32MiB)"
    )
    group.add_argument(
        "--draft-model",
        metavar="MODEL",
        help="a smaller model of the same vocabulary that guesses tokens where this pays (default: none)",
    )
    group.add_argument("--isa", metavar="TIER", help="instruction-set tier to force; `miaotui doctor` lists them")


def config_of(args: Namespace) -> Config:
    """The configuration with a command's flags on top. Call it before anything imports the native core."""
    from miaotui.config import export_native_settings, load_config

    flags = {
        name: getattr(args, name, None)
        for name in ("activations", "kv_dtype", "context_length", "threads", "isa", "drafting", "draft_model")
    }
    others = {
        "kv_memory_bytes": "kv_memory",
        "prefix_cache_bytes": "prefix_cache",
        "past_answers_bytes": "past_answers",
        "model": "model",
    }
    flags |= {name: getattr(args, flag, None) for name, flag in others.items()}
    if getattr(args, "no_pack_cache", False):
        flags["pack_cache_bytes"] = 0
    config = load_config(flags)
    export_native_settings(config)
    return config


def cpu_info(config: Config) -> dict[str, Any]:
    """What the native core found. Raises ConfigError, about what the user wrote, for a tier that cannot run here."""
    from miaotui import _native
    from miaotui.errors import ConfigError, CpuTierError

    try:
        return dict(_native.cpu_info())
    except CpuTierError as error:
        written = f"{config.sources['isa']} is {config.isa!r}, which"
        message = str(error).replace(f"MIAOTUI_ISA={config.isa}", written, 1)
        raise ConfigError(message.replace("or unset it", "or leave it out")) from None


def thread_excess(config: Config, cpu: dict[str, Any]) -> str | None:
    """What is wrong with the number of threads that was asked for; None if nothing is."""
    cpus = min(cpu["affinity"], math.ceil(cpu["cgroup_quota"] or cpu["affinity"]))
    if cpu["threads"] <= cpus:
        return None
    return f"{config.sources['threads']} asks for {cpu['threads']} threads, but this process may use {cpus} CPUs"


def open_llm(config: Config, *, fetch: bool = False, **options: Any) -> LLM:
    """The configured model, ready to answer. With `fetch`, a model known by name is downloaded first if need be.

    options: those of `LLM`, instead of what is configured; with a drafter, or None for it, no draft model is opened.
    """
    if excess := thread_excess(config, cpu_info(config)):
        note(f"{excess}; expect it to be far slower")
    path = _fetched(config.model) if fetch else None
    if "drafter" not in options:
        options |= _drafting(config, fetch=fetch)
    from miaotui.engine.llm import LLM

    return LLM(
        path or config.model,
        activations=config.activations,
        kv_dtype=config.kv_dtype,
        context_length=config.context_length,
        kv_memory_bytes=config.kv_memory_bytes,
        pack_cache_bytes=config.pack_cache_bytes,
        **{"prefix_cache_bytes": config.prefix_cache_bytes, **options},
    )


def _fetched(model: str) -> Path:
    from miaotui.formats.store import pull

    return pull(model)


def _drafting(config: Config, *, fetch: bool) -> dict[str, Any]:
    """What guesses tokens: nothing where drafting is off, unless nobody said so and there is a draft model."""
    is_off = config.drafting == "off"
    if is_off and config.draft_model is not None and config.sources["drafting"] != "default":
        note(f"{config.sources['drafting']} is off: the draft model {config.draft_model} is not opened")
    if is_off and (config.draft_model is None or config.sources["drafting"] != "default"):
        return {"drafter": None}
    from miaotui.adaptive import AdaptiveDrafter, PastAnswers

    drafter = AdaptiveDrafter(PastAnswers(config.past_answers_bytes) if config.drafting == "past" else None)
    if config.draft_model is None:
        return {"drafter": drafter}
    return {"drafter": drafter, "draft_model": _fetched(config.draft_model) if fetch else config.draft_model}


def open_embedder(config: Config, model: str, activations: Activations | None = None) -> Embedder:
    """A text encoder, downloaded first if it is known by name; with int8 activations unless others were asked for.

    activations: those to take in any case.
    """
    if excess := thread_excess(config, cpu_info(config)):
        note(f"{excess}; expect it to be far slower")
    from miaotui.engine.embedder import Embedder
    from miaotui.formats.store import pull

    chosen = config.sources["activations"] != "default"
    return Embedder(pull(model), activations=activations or (config.activations if chosen else "int8"))
