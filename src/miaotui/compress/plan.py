"""Which type each tensor gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from miaotui.compress.source import SourceTensor
from miaotui.errors import ConfigError
from miaotui.formats.weights import TensorType

TYPES = ("Q8_0", "Q6_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q4_K", "IQ4_NL", "F16")
KEPT = ("position_embd.weight", "token_types.weight")
"""Small tables of encoders, which llama.cpp adds as float32."""
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


def plan(
    tensors: Iterable[SourceTensor], wanted: TensorType, types: Mapping[str, TensorType] | None = None
) -> list[Choice]:
    """One type for all matrices but those that `types` names; a head that it does not name keeps 6 bits at least.

    The embedding doubles as the head where there is none. Vectors, what has no whole blocks, and factors that correct a
    matrix stay as they are. Raises ConfigError for a type in `types` whose blocks do not fit the rows.
    """
    tensors = list(tensors)
    names = {tensor.name for tensor in tensors}
    head = "output.weight" if any(t.name == "output.weight" for t in tensors) else "token_embd.weight"
    named = types or {}
    choices = []
    for tensor in tensors:
        usual = tensor.type if _corrects(tensor.name, names) else _type_of(tensor, wanted, tensor.name == head)
        after = named.get(tensor.name, usual)
        if tensor.name in named and after is not fitting_type(after, tensor.shape):
            raise ConfigError(f"tensor '{tensor.name}' {list(tensor.shape)} has no whole blocks of {after.name}.")
        if _corrects(tensor.name, names):
            after = tensor.type
        choices.append(Choice(tensor.name, tensor.shape, tensor.type, after))
    return choices


def _corrects(name: str, names: Collection[str]) -> bool:
    matrix, _, factor = name.rpartition(".lora_")
    return bool(factor) and matrix in names


def _type_of(tensor: SourceTensor, wanted: TensorType, is_head: bool) -> TensorType:
    if len(tensor.shape) != 2 or tensor.name in KEPT:
        return tensor.type
    if wanted is TensorType.F16:
        return TensorType.F16
    kind: TensorType = wanted
    if is_head and _bits(kind) < _bits(TensorType.Q6_K):
        kind = TensorType.Q6_K
    return fitting_type(kind, tensor.shape) or tensor.type


def fitting_type(kind: TensorType, shape: tuple[int, ...]) -> TensorType | None:
    """That type, or what stands in for it where rows are no whole super-blocks; None where none fits."""
    if shape[-1] % kind.block_weights:
        kind = _FALLBACKS.get(kind, kind)
    return kind if shape[-1] % kind.block_weights == 0 else None


def _bits(kind: TensorType) -> float:
    return kind.block_bytes * 8 / kind.block_weights
