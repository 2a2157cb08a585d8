"""The bytes of GGUF's block types, from scales and codes; what csrc/kernels/dequantize.cpp reads, the other way round.

`rows` of blocks: every function takes arrays whose first dimension counts blocks, and gives uint8 [blocks, bytes].
Scales are rounded to float16 by whoever chooses the codes, since the codes depend on them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miaotui.formats.weights import TensorType

Codes = NDArray[np.uint8]
Halves = NDArray[np.float16]

GROUP = 32
SUPER = 256
IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
"""What the codes of IQ4_NL stand for."""


def pack_group(kind: TensorType, scale: Halves, minimum: Halves | None, codes: Codes) -> NDArray[np.uint8]:
    """Blocks of 32: scale and minimum float16 [blocks], codes [blocks, 32] of 4, 5 or 8 bits (those of Q8_0 as int8).

    A block stands for scale x (code - 8) in Q4_0, scale x (code - 16) in Q5_0, scale x code in Q8_0, scale x
    IQ4_VALUES[code] in IQ4_NL, scale x code + minimum in Q4_1 and Q5_1.
    """
    parts: list[NDArray[np.uint8]] = [_bytes_of(scale)] + ([] if minimum is None else [_bytes_of(minimum)])
    if kind is TensorType.Q8_0:
        return np.concatenate([*parts, codes.view(np.uint8)], axis=1)
    if kind in (TensorType.Q5_0, TensorType.Q5_1):
        parts.append(np.packbits(codes >> 4, axis=1, bitorder="little"))
    parts.append((codes[:, :16] & np.uint8(15)) | (codes[:, 16:] & np.uint8(15)) << np.uint8(4))
    return np.concatenate(parts, axis=1)


def pack_q4_k(d: Halves, dmin: Halves, scales: Codes, minimums: Codes, codes: Codes) -> NDArray[np.uint8]:
    """Q4_K: weight = d x scale x code - dmin x minimum; scales, minimums [blocks, 8] of 6 bits, codes [blocks, 256]."""
    six = np.empty((len(codes), 12), np.uint8)
    six[:, :4] = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    six[:, 4:8] = minimums[:, :4] | (minimums[:, 4:] >> 4) << 6
    six[:, 8:] = (scales[:, 4:] & 15) | (minimums[:, 4:] & 15) << 4
    pairs = codes.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([_bytes_of(d), _bytes_of(dmin), six, nibbles], axis=1)


def pack_q6_k(d: Halves, scales: NDArray[np.int8], codes: Codes) -> NDArray[np.uint8]:
    """Q6_K: weight = d x scale x (code - 32); scales int8 [blocks, 16], codes [blocks, 256] of 6 bits."""
    quarters = codes.reshape(-1, 2, 4, 32)  # halves of 128 codes; in each, 4 times 32
    low = (quarters[:, :, :2] & 15 | (quarters[:, :, 2:] & 15) << 4).reshape(-1, 128)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    high = np.bitwise_or.reduce((quarters >> 4) << shifts, axis=2).reshape(-1, 64)
    return np.concatenate([low, high, scales.view(np.uint8), _bytes_of(d)], axis=1)


def _bytes_of(halves: Halves) -> NDArray[np.uint8]:
    return np.ascontiguousarray(halves)[:, None].view(np.uint8)
