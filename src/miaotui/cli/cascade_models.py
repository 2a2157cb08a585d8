"""The models of a cascade as the command line names them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from miaotui.cli.output import note
from miaotui.cli.parsing import add_model_options, cpu_info, thread_excess
from miaotui.errors import ConfigError

if TYPE_CHECKING:
    from miaotui.config import Config
    from miaotui.engine.llm import LLM


def add_arguments(parser: ArgumentParser) -> None:
    """The two models, and how they are run."""
    parser.add_argument("small", help="name or path of the model that is asked first")
    parser.add_argument("large", help="name or path of the model that is asked where that one is not sure enough")
    add_model_options(parser)


def open_all(config: Config, models: Sequence[str], **more: Any) -> list[LLM]:
    """Open them within one budget of memory, downloaded first where they are known by name and not here yet.

    more: options of `LLM` beside those of the configuration.
    """
    if excess := thread_excess(config, cpu_info(config)):
        note(f"{excess}; expect it to be far slower")
    if config.draft_model is not None:
        where = config.sources["draft_model"]
        raise ConfigError(
            f"a cascade's large model drafts from the small one's answers, so {where} has no use; unset it."
        )
    from miaotui.adaptive.cascade import open_models
    from miaotui.formats.store import pull

    options: dict[str, Any] = {
        "activations": config.activations,
        "kv_dtype": config.kv_dtype,
        "context_length": config.context_length,
        "pack_cache_bytes": config.pack_cache_bytes,
        "prefix_cache_bytes": config.prefix_cache_bytes,
        **more,
    }
    return open_models(
        [pull(model) for model in models],
        kv_memory_bytes=config.kv_memory_bytes,
        drafting=config.drafting != "off",
        past_answers_bytes=config.past_answers_bytes if config.drafting == "past" else None,
        **options,
    )
