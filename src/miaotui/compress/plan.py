"""Which type each tensor gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from miaotui.compress.source import SourceTensor
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

TYPES = ("Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q4_K", "IQ4_NL", "F16")
HEADS = ("output.weight",)
_FALLBACKS = {TensorType.Q4_K: TensorType.Q5_0, TensorType.Q6_K: TensorType.Q8_0}
"""What matrices get whose rows are no whole super-blocks of 256, as llama.cpp does."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A tensor's type before and after."""

    name: str
    shape: tuple[int, ...]
    before: TensorType
    after: TensorType

    @property
    def changes(self) -> bool:
        """Whether its weights are quantized anew."""
        return self.before is not self.after


def type_named(name: str) -> TensorType:
    """Raises ConfigError for a type that nothing is compressed to."""
    if name.upper() not in TYPES:
        raise ConfigError(f"{name[:40]!r} is no type to compress to; choose one of {', '.join(TYPES)}.")
    return TensorType[name.upper()]


def plan(tensors: Iterable[SourceTensor], wanted: TensorType) -> list[Choice]:
    """One type for all matrices; the output head, or the embedding that doubles as one, keeps 6 bits at least.

    Vectors, what has no whole blocks, and factors that correct a matrix stay as they are.
    """
    tensors = list(tensors)
    names = {tensor.name for tensor in tensors}
    head = "output.weight" if any(t.name == "output.weight" for t in tensors) else "token_embd.weight"
    kinds = [t.type if _corrects(t.name, names) else _type_of(t, wanted, t.name == head) for t in tensors]
    return [Choice(t.name, t.shape, t.type, kind) for t, kind in zip(tensors, kinds, strict=True)]


def _corrects(name: str, names: Collection[str]) -> bool:
    matrix, _, factor = name.rpartition(".lora_")
    return bool(factor) and matrix in names


def _type_of(tensor: SourceTensor, wanted: TensorType, is_head: bool) -> TensorType:
    if len(tensor.shape) != 2:
        return tensor.type
    if wanted is TensorType.F16:
        return TensorType.F16
    kind: TensorType = wanted
    if is_head and _bits(kind) < _bits(TensorType.Q6_K):
        kind = TensorType.Q6_K
    if tensor.shape[1] % kind.block_weights:
        kind = _FALLBACKS.get(kind, kind)
    return kind if tensor.shape[1] % kind.block_weights == 0 else tensor.type


def _bits(kind: TensorType) -> float:
    return kind.block_bytes * 8 / kind.block_weights
