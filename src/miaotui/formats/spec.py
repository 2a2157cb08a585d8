"""What a model file says about its architecture, in one vocabulary for GGUF metadata and `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from miaotui.errors import ModelFileError
from miaotui.formats.convolutions import Convolutions

Architecture = Literal["llama", "qwen2", "qwen3", "gemma3", "bert", "text_cnn"]
ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2", "qwen3", "gemma3", "bert", "text_cnn")
ENCODERS: frozenset[Architecture] = frozenset({"bert"})
"""Architectures that make one vector of a text, and write none."""

Activation = Literal["silu", "gelu_tanh", "gelu", "relu"]
Pooling = Literal["mean", "first"]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched to a longer context; counts of positions are in tokens.

    `original_context` 0 means the model's own `context_length`. `attention_factor` None means the kind's default
    (yarn: 0.1 ln(factor) + 1). `freq_factors_tensor` names a tensor that divides the frequencies one by one.
    """

    kind: Literal["none", "linear", "llama3", "yarn"] = "none"
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    freq_factors_tensor: str | None = None

    def __post_init__(self) -> None:
        _check_range("rope scaling factor", self.factor, 1e-3, 1e6)
        _check_range("rope original context length", self.original_context, 0, 2**31 - 1)
        _check_range("rope low_freq_factor", self.low_freq_factor, 1e-6, 1e6)
        _check_range("rope high_freq_factor", self.high_freq_factor, 1e-6, 1e6)
        _check_range("rope beta_fast", self.beta_fast, 1e-6, 1e6)
        _check_range("rope beta_slow", self.beta_slow, 1e-6, 1e6)
        if self.attention_factor is not None:
            _check_range("rope attention_factor", self.attention_factor, 1e-6, 1e6)
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ModelFileError("the rope high_freq_factor must be greater than the low_freq_factor.")
        if self.kind == "yarn" and self.beta_fast < self.beta_slow:
            raise ModelFileError("the rope beta_fast must not be smaller than beta_slow.")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Architecture and hyper-parameters. Creating one checks every field: ModelFileError names the one out of range.

    `rope_theta` and `rope_scaling` hold for all layers; if `rope_local_theta` is set, local (sliding) layers use it
    instead, unscaled. A local layer's token sees itself and the `sliding_window - 1` tokens before it.
    `norm_offset` is added to every RMSNorm gain (1.0 where the file stores gain - 1).
    `rope_pairing`: "neox" rotates (i, i + rope_dim / 2) together, "interleaved" (2i, 2i + 1).
    Encoders have learned positions, as many as `context_length`, and nothing to do with rope. `max_text_tokens`: what
    they were made for (0: as many as positions). `pooling`: the mean of a text's rows, or the first one.
    A classifier's layers are its convolutions, side by side; `intermediate_size` is how many filters each of them has.
    """

    architecture: Architecture
    name: str
    source: Literal["gguf", "safetensors"]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    norm_eps: float
    activation: Activation
    rope_dim: int
    rope_theta: float
    rope_local_theta: float | None
    rope_scaling: RopeScaling
    rope_pairing: Literal["neox", "interleaved"]
    attention_scale: float
    attention_bias: bool
    sliding_window: int | None
    sliding_layers: tuple[bool, ...]
    attention_softcap: float | None
    final_softcap: float | None
    tie_embeddings: bool
    embedding_scale: float
    norm_offset: float = 0.0
    num_token_types: int = 0
    pooling: Pooling = "mean"
    max_text_tokens: int = 0
    convolutions: Convolutions | None = None

    @property
    def is_classifier(self) -> bool:
        """Whether the model scores labels for a text, and writes none."""
        return self.convolutions is not None

    @property
    def is_encoder(self) -> bool:
        """Whether the model makes one vector of a text, and writes none."""
        return self.architecture in ENCODERS

    @property
    def longest_text(self) -> int:
        """Most tokens of one text: what an encoder was made for, or its positions."""
        return self.max_text_tokens or self.context_length

    def __post_init__(self) -> None:
        for field, high in _MAX_SIZES.items():
            _check_range(field, getattr(self, field), 1, high)
        _check_range("norm_eps", self.norm_eps, 0.0, 1.0)
        _check_range("rope_theta", self.rope_theta, 1.0 + 1e-6, 1e12)
        _check_range("attention_scale", self.attention_scale, 1e-6, 1e6)
        _check_range("embedding_scale", self.embedding_scale, 1e-6, 1e6)
        for field in ("rope_local_theta", "attention_softcap", "final_softcap"):
            value = getattr(self, field)
            if value is not None:
                _check_range(field, value, 1e-6, 1e12)
        if self.is_encoder:
            _check_range("num_token_types", self.num_token_types, 1, 1 << 16)
            _check_range("max_text_tokens", self.max_text_tokens, 0, self.context_length)
        if self.convolutions is not None and len(self.convolutions.taps) != self.num_layers:
            raise ModelFileError(f"{len(self.convolutions.taps)} convolutions are given for {self.num_layers} layers.")
        self._check_heads()
        self._check_layers()

    def _check_heads(self) -> None:
        if self.num_heads % self.num_kv_heads != 0:
            raise ModelFileError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})."
            )
        if self.rope_dim % 2 != 0 or self.rope_dim > self.head_dim:
            raise ModelFileError(f"rope_dim ({self.rope_dim}) must be even and at most head_dim ({self.head_dim}).")
        if self.num_heads * self.head_dim > _MAX_ATTENTION_WIDTH:
            raise ModelFileError(
                f"num_heads x head_dim = {self.num_heads * self.head_dim} is more than {_MAX_ATTENTION_WIDTH}."
            )

    def _check_layers(self) -> None:
        if len(self.sliding_layers) != self.num_layers:
            raise ModelFileError(f"{len(self.sliding_layers)} layer types are given for {self.num_layers} layers.")
        if any(self.sliding_layers) and self.sliding_window is None:
            raise ModelFileError("some layers are local, but the sliding window is missing.")
        if self.sliding_window is not None:
            _check_range("sliding_window", self.sliding_window, 1, 2**31 - 1)


_MAX_SIZES = {
    "vocab_size": 1 << 22,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 19,
    "num_layers": 1024,
    "num_heads": 1024,
    "num_kv_heads": 1024,
    "head_dim": 1024,
    "context_length": 2**31 - 1,
    "rope_dim": 1024,
}
_MAX_ATTENTION_WIDTH = 1 << 18


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # false for NaN, too
        raise ModelFileError(f"{field} is {value}, but must lie between {low:g} and {high:g}; the file is damaged.")
