"""Layers of local attention in between: what may be left out so that the rest still alternates by one number.

A GGUF file gives the period p of a model's local layers: layer i is global where i + 1 is a multiple of p. No list of
layers is written, because llama.cpp reads none for these architectures.
"""

from __future__ import annotations

from collections.abc import Sequence

from miaotui.compress.source import Source
from miaotui.errors import ConfigError, UnsupportedModelError
from miaotui.formats.spec_fields import Fields

GEMMA3_PERIOD = 6
_GEMMA3_27B_LAYERS = 62
"""Readers know the 27B model, whose attention has a scale of its own, by this number of layers."""


def period_without(source: Source, kept: Sequence[int]) -> dict[str, int]:
    """The metadata that says which of the kept layers are local, as it is written; empty where all are alike.

    Raises ConfigError where no period describes them, UnsupportedModelError for models that cannot lose layers at all.
    """
    fields = Fields(str(source.path), source.metadata)
    arch = fields.string("general.architecture")
    before = fields.integer(f"{arch}.block_count")
    if arch == "gemma3" and _GEMMA3_27B_LAYERS in (before, len(kept)):
        raise UnsupportedModelError(
            f"{source.path}: readers of Gemma 3 know the scale of its attention by its {_GEMMA3_27B_LAYERS} layers; "
            "leave out another number of layers, or prune another model."
        )
    period = _period(source)
    if period == 0:
        return {}
    is_global = [(layer + 1) % period == 0 for layer in kept]
    found = is_global.index(True) + 1 if any(is_global) else len(kept) + 1
    if is_global != [(at + 1) % found == 0 for at in range(len(kept))]:
        raise ConfigError(
            f"without these layers, global attention no longer comes at every so manieth; every {period}th layer is "
            "global: leave out one local layer at the same place between all of them, or let the tool choose."
        )
    return {f"{arch}.attention.sliding_window_pattern": found}


def units(source: Source) -> list[tuple[int, ...]] | None:
    """Sets of layers that can be left out together, any number of them; None where every single layer can.

    Where global layers alternate with local ones: the local layers at one place between the global ones.
    """
    period = _period(source)
    if period == 0:
        return None
    fields = Fields(str(source.path), source.metadata)
    count = fields.integer(f"{fields.string('general.architecture')}.block_count")
    return [tuple(range(place, count, period)) for place in range(min(period - 1, count))]


def _period(source: Source) -> int:
    """Of the layers with global attention; 0 where all layers are alike."""
    fields = Fields(str(source.path), source.metadata)
    arch = fields.string("general.architecture")
    if not fields.integer(f"{arch}.attention.sliding_window", 0):
        return 0
    key = f"{arch}.attention.sliding_window_pattern"
    if key in fields and not fields.is_plain_integer(key):
        raise UnsupportedModelError(f"{source.path}: '{key}' is a list; only models with one number there lose layers.")
    period = fields.integer(key, GEMMA3_PERIOD if arch == "gemma3" else 0)
    return 0 if period == 1 else period
