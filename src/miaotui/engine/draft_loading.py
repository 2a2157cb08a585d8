"""A small model loaded beside a large one, to guess its tokens: checked to fit it, within one budget of memory."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from miaotui.engine.drafter import Drafter, ModelDrafter
from miaotui.engine.loading import LoadedModel, LoadOptions, load_model
from miaotui.engine.memory_shares import check_room, share_kv
from miaotui.errors import CapacityError, ConfigError, UnsupportedModelError
from miaotui.formats import ModelFile

MOST_READ = 128
"""Tokens that a run of the small model reads: nobody is to wait for more."""


def default_drafter() -> Drafter:
    """What guesses where nobody said what is to.

    Found by its name, as a plug-in is: the room `adaptive` is built on this one, which knows of it no more than that.
    """
    drafter: Drafter = import_module("miaotui.adaptive").AdaptiveDrafter()
    return drafter


def load_with_draft_model(file: ModelFile, draft: ModelFile, options: LoadOptions) -> LoadedModel:
    """Load a model, and another one that its drafter is to ask.

    `options.kv_memory_bytes` is for both. The small one's activations have 8 bits: what it says is checked anyway.
    Raises ConfigError without a drafter that asks models, UnsupportedModelError for a small model that writes no text
    or has another vocabulary, CapacityError where both do not fit the memory, and what `load_model` raises.
    """
    drafter = options.drafter
    if not isinstance(drafter, ModelDrafter):
        raise ConfigError(
            f"draft_model needs a drafter that asks one, and {type(drafter).__name__} does not: leave `drafter` out or "
            "give an AdaptiveDrafter."
        )
    if draft.spec.is_encoder or draft.spec.is_classifier:
        raise UnsupportedModelError(f"{draft.spec.name} writes no text; take another draft model.")
    files = (file, draft)
    shares = share_kv(files, options.kv_memory_bytes, options.context_length, options.kv_dtype)
    check_room(files, shares)
    try:
        small = load_model(draft, _small_options(options, shares[1]))
    except CapacityError as error:
        raise CapacityError(f"the draft model {draft.spec.name}: {error}") from None
    large = load_model(file, replace(options, kv_memory_bytes=shares[0]))
    _check_vocabulary(small, large)
    drafter.use_model(small, large)
    large.engine.tuners += small.engine.tuners
    return large


def _small_options(options: LoadOptions, kv_bytes: int) -> LoadOptions:
    """How the small model is run: as the large one, but in short steps, and with pages in memory alone."""
    return replace(
        options,
        activations="int8",
        context_length=None,
        kv_memory_bytes=kv_bytes,
        max_tokens_per_step=max(MOST_READ, 2 * options.max_sequences),
        max_logit_rows=options.max_sequences,
        prefix_cache_bytes=0,
        drafter=None,
    )


def _check_vocabulary(small: LoadedModel, large: LoadedModel) -> None:
    """Raise UnsupportedModelError where a token id stands for one thing here and another there."""
    token = large.tokenizer.first_difference(small.tokenizer)
    if token is not None:
        there, here = small.tokenizer.token_bytes(token), large.tokenizer.token_bytes(token)
        raise UnsupportedModelError(
            f"the draft model {small.file.spec.name} has another vocabulary than {large.file.spec.name}: token {token} "
            f"is {there!r:.40} there and {here!r:.40} here. Take a smaller model of the same family, such as "
            "Qwen2.5-Coder 0.5B for Qwen2.5-Coder 1.5B, or leave the draft model out."
        )
