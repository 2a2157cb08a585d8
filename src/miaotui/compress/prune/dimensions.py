"""The sizes of a decoder that pruning changes, from a source's metadata."""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.compress.source import Source
from miaotui.errors import UnsupportedModelError
from miaotui.formats.spec_fields import Fields

DECODERS = ("llama", "qwen2", "qwen3", "gemma3")
"""Architectures that are pruned; their layers hold tensors of the same names."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Counts of a decoder; all layers are alike. `head_dim` is the width of one head in columns."""

    architecture: str
    hidden_size: int
    num_layers: int
    num_neurons: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def heads_per_group(self) -> int:
        """Query heads that share one head of keys and values."""
        return self.num_heads // self.num_kv_heads

    @property
    def attention_weights(self) -> int:
        """Weights of a layer's four projections."""
        return 2 * self.hidden_size * self.head_dim * (self.num_heads + self.num_kv_heads)

    @property
    def mlp_weights(self) -> int:
        """Weights of a layer's gate, up and down."""
        return 3 * self.hidden_size * self.num_neurons


def dimensions(source: Source) -> Dimensions:
    """Raises UnsupportedModelError for an architecture that is not pruned, ModelFileError for broken metadata."""
    fields = Fields(str(source.path), source.metadata)
    arch = fields.string("general.architecture")
    if arch not in DECODERS:
        raise UnsupportedModelError(
            f"{source.path}: models of architecture {arch!r:.40} are not pruned; those of {', '.join(DECODERS)} are."
        )
    hidden_size, num_heads = fields.integer(f"{arch}.embedding_length"), fields.integer(f"{arch}.attention.head_count")
    num_kv_heads = fields.integer(f"{arch}.attention.head_count_kv", num_heads)
    if num_heads < 1 or num_kv_heads < 1 or num_heads % num_kv_heads:
        raise fields.wrong(f"{arch}.attention.head_count_kv", num_kv_heads, f"a divisor of the {num_heads} heads")
    return Dimensions(
        architecture=arch,
        hidden_size=hidden_size,
        num_layers=fields.integer(f"{arch}.block_count"),
        num_neurons=fields.integer(f"{arch}.feed_forward_length"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=fields.integer(f"{arch}.attention.key_length", hidden_size // num_heads),
    )
