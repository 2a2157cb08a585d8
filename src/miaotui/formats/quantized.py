"""A file's float matrices in 8 bits, group by group, for the kernels that multiply integers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ModelFileError
from miaotui.formats.weights import MappedFile, Tensor, TensorType, Weights

GROUP = 32


class Q8Weights(Weights):
    """The tensors of a model, of which those in `names` are of type Q8_0 instead of floats.

    They are quantized when they are first asked for, and kept until they are released. `names` are matrices whose
    columns are a multiple of 32.
    """

    def __init__(self, weights: Weights, names: Collection[str]) -> None:
        self._floats = weights
        self._names = frozenset(names)
        self._made: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            return self._floats[name]
        if name not in self._made:
            tensor = self._floats[name]
            self._made[name] = Tensor(name, TensorType.Q8_0, tensor.shape, quantize_q8_0(tensor.to_float32(), name))
            self._floats.release(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._floats)

    def __len__(self) -> int:
        return len(self._floats)

    @property
    def files(self) -> tuple[MappedFile, ...]:
        """The files that hold the floats."""
        return self._floats.files

    @property
    def file_bytes(self) -> int:
        """Length of all files together, headers included."""
        return self._floats.file_bytes

    def release(self, name: str) -> None:
        """Forget what was made of tensor `name`; it is made again if asked for again."""
        if self._made.pop(name, None) is None:
            self._floats.release(name)


def quantize_q8_0(matrix: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """The bytes of a matrix as GGUF's Q8_0: per 32 columns a float16 scale d and codes round(w / d), -127 to 127.

    Raises ModelFileError for weights that are not finite, or too large for a scale.
    """
    groups = matrix.reshape(-1, GROUP)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (np.abs(groups).max(axis=1) / np.float32(127)).astype(np.float16)
    if not np.isfinite(scale).all():
        raise ModelFileError(f"tensor '{name}' holds weights that are not finite; the file is damaged.")
    steps = scale.astype(np.float32)
    inverse = np.divide(np.float32(1), steps, out=np.zeros_like(steps), where=steps > 0)
    # A scale that was rounded down would take the largest weight to 127.06.
    codes = np.clip(np.rint(groups * inverse[:, None]), -127, 127).astype(np.int8)
    blocks = np.empty((len(groups), 2 + GROUP), np.uint8)
    blocks[:, :2] = scale[:, None].view(np.uint8)
    blocks[:, 2:] = codes.view(np.uint8)
    return blocks.reshape(-1)
