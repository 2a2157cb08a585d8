"""Orthogonal maps of short vectors that cost little: Hadamard matrices with random signs, block after block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rotation:
    """x → x D H on vectors whose width is a multiple of `block`, or of the signs' number where that is more.

    signs: the diagonal of D, 1 or -1 [width], repeated along wider vectors (heads). H has blocks of `block` x `block`.
    """

    signs: Floats
    block: int

    @classmethod
    def of(cls, width: int, rng: np.random.Generator) -> Rotation:
        """With the largest power of two that divides the width as block."""
        return cls(rng.choice(np.array([-1, 1], np.float32), width), width & -width)

    def turn(self, x: Floats) -> Floats:
        """Vectors [..., n x width], turned."""
        signed: Floats = x.reshape(-1, len(self.signs)) * self.signs
        turned: Floats = signed.reshape(-1, self.block) @ hadamard(self.block)
        return turned.reshape(x.shape)

    def turn_rows(self, matrix: Floats, first: int) -> Floats:
        """Rows `first` … of a matrix whose columns are turned, whole blocks of them."""
        signs = self.signs[(first + np.arange(len(matrix))) % len(self.signs)]
        blocks = (matrix * signs[:, None]).reshape(-1, self.block, matrix.shape[1])
        turned: Floats = hadamard(self.block) @ blocks
        return turned.reshape(matrix.shape)


def hadamard(size: int) -> Floats:
    """Sylvester's symmetric orthogonal matrix [size, size], size a power of two."""
    matrix: Floats = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    orthogonal: Floats = (matrix / np.sqrt(size)).astype(np.float32)
    return orthogonal
