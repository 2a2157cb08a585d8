"""What the subcommands' parsers have in common."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miaotui.config import Config
    from miaotui.engine.llm import LLM


def make_parser(name: str, meaning: str) -> ArgumentParser:
    """The parser of one subcommand, with `--json` already there."""
    parser = ArgumentParser(
        prog=f"miaotui {name}", description=meaning[0].upper() + meaning[1:] + ".", allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def add_model_options(parser: ArgumentParser) -> None:
    """Flags for how a model is run; defaults come from environment and configuration file."""
    group = parser.add_argument_group("how to run the model")
    group.add_argument(
        "--activations", metavar="TYPE", help="int16 (default), int8 (faster, less exact) or float32 (slow)"
    )
    group.add_argument("--kv-dtype", metavar="TYPE", help="type of the KV cache: f16 (default), bf16, int8, f32")
    group.add_argument("--context-length", metavar="N", help="most tokens of question and answer together")
    group.add_argument("--kv-memory", metavar="SIZE", help="memory for the KV cache, such as 256MiB")
    group.add_argument("--threads", metavar="N", help="threads of the native core")
    group.add_argument("--isa", metavar="TIER", help="instruction-set tier to force; `miaotui doctor` lists them")


def config_of(args: Namespace) -> Config:
    """The configuration with a command's flags on top. Call it before anything imports the native core."""
    from miaotui.config import export_native_settings, load_config

    flags = {
        name: getattr(args, name, None) for name in ("activations", "kv_dtype", "context_length", "threads", "isa")
    }
    config = load_config(
        flags | {"kv_memory_bytes": getattr(args, "kv_memory", None), "model": getattr(args, "model", None)}
    )
    export_native_settings(config)
    return config


def open_llm(config: Config, *, fetch: bool = False, **options: Any) -> LLM:
    """The configured model, ready to answer. With `fetch`, a model known by name is downloaded first if need be."""
    path = None
    if fetch:
        from miaotui.formats.store import pull

        path = pull(config.model)
    from miaotui.engine.llm import LLM

    return LLM(
        path or config.model,
        activations=config.activations,
        kv_dtype=config.kv_dtype,
        context_length=config.context_length,
        kv_memory_bytes=config.kv_memory_bytes,
        **options,
    )
