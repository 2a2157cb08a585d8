"""A matrix as codes, scales and minimums: what the native search finds, what blocks of a file are packed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.quantize.blocks import GROUP, IQ4_VALUES, SUPER, pack_group, pack_q4_k, pack_q6_k
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

AFFINE = (TensorType.Q4_1, TensorType.Q5_1)
SUPERS = (TensorType.Q4_K, TensorType.Q6_K)
_LOWEST = {TensorType.Q4_0: -8, TensorType.Q5_0: -16, TensorType.Q6_K: -32}


@dataclass(frozen=True, slots=True)
class Found:
    """Codes uint8 [rows, columns]; scales and minimums [rows, groups]; units [rows, super-blocks, 2] or nothing in it.

    As `_native.quantize` gives them: scales and minimums are float16 values, or whole multiples of the units.
    """

    kind: TensorType
    codes: NDArray[np.uint8]
    scales: Floats
    minimums: Floats
    units: Floats

    def weights(self) -> Floats:
        """What the codes stand for [rows, columns], as the file's reader will see them."""
        rows, columns = self.codes.shape
        scales, minimums = self.scales, self.minimums
        if self.kind in SUPERS:
            share = scales.shape[1] // self.units.shape[1]
            scales = scales * np.repeat(self.units[:, :, 0], share, axis=1)
            minimums = minimums * np.repeat(self.units[:, :, 1], share, axis=1)
        values = values_of(self.kind, self.codes).reshape(rows, scales.shape[1], -1)
        return (scales[:, :, None] * values + minimums[:, :, None]).reshape(rows, columns)

    def packed(self) -> NDArray[np.uint8]:
        """The bytes of the file's blocks, in order."""
        if self.kind is TensorType.Q4_K:
            d, dmin = _halves(self.units[:, :, 0]), _halves(-self.units[:, :, 1])
            scales, minimums = (part.astype(np.uint8).reshape(-1, 8) for part in (self.scales, self.minimums))
            return pack_q4_k(d, dmin, scales, minimums, self.codes.reshape(-1, SUPER)).reshape(-1)
        if self.kind is TensorType.Q6_K:
            signed = self.scales.astype(np.int8).reshape(-1, 16)
            return pack_q6_k(_halves(self.units[:, :, 0]), signed, self.codes.reshape(-1, SUPER)).reshape(-1)
        minimum = _halves(self.minimums) if self.kind in AFFINE else None
        return pack_group(self.kind, _halves(self.scales), minimum, self.codes.reshape(-1, GROUP)).reshape(-1)


def values_of(kind: TensorType, codes: NDArray[np.uint8]) -> Floats:
    """What a scale is multiplied with, for every code."""
    if kind is TensorType.IQ4_NL:
        return IQ4_VALUES[codes]
    if kind is TensorType.Q8_0:
        return codes.view(np.int8).astype(np.float32)
    return codes.astype(np.float32) + np.float32(_LOWEST.get(kind, 0))


def _halves(values: Floats) -> NDArray[np.float16]:
    return values.astype(np.float16).reshape(-1)
