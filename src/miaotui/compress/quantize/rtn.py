"""Round to nearest: each block's scale from its extremes, each weight to the nearest code. No data is asked for.

The scales are those of llama.cpp's plain quantizer, so that it is the floor every other method is measured against.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from miaotui.compress.calibration import InputStatistics
from miaotui.compress.quantize.blocks import GROUP, IQ4_VALUES, SUPER, pack_group, pack_q4_k, pack_q6_k
from miaotui.compress.quantize.method import Quantizer
from miaotui.formats.quantized import quantize_q8_0
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]

_CENTERS = {TensorType.Q4_0: 8, TensorType.Q5_0: 16}
_STEPS = {TensorType.Q4_1: 15, TensorType.Q5_1: 31}
_IQ4_BOUNDS = (IQ4_VALUES[1:] + IQ4_VALUES[:-1]) / 2


def quantizer(kind: TensorType, columns: int, statistics: InputStatistics | None) -> Quantizer:
    """See `method.Method`; the inputs do not matter here."""
    return partial(quantize, kind)


def quantize(kind: TensorType, weights: Floats) -> NDArray[np.uint8]:
    """The bytes of `weights` (any shape, whole blocks, finite) as blocks of that type, in order."""
    if kind is TensorType.Q4_K:
        return _q4_k(weights.reshape(-1, SUPER)).reshape(-1)
    if kind is TensorType.Q6_K:
        return _q6_k(weights.reshape(-1, SUPER)).reshape(-1)
    groups = weights.reshape(-1, GROUP)
    if kind is TensorType.Q8_0:
        return quantize_q8_0(groups, "weights")
    if kind in _STEPS:
        return _affine(kind, groups).reshape(-1)
    return _symmetric(kind, groups).reshape(-1)


def _symmetric(kind: TensorType, groups: Floats) -> NDArray[np.uint8]:
    """The weight farthest from 0 becomes the code farthest from 0, which is a negative one."""
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)[:, 0]
    if kind is TensorType.IQ4_NL:
        scale = (extreme / IQ4_VALUES[0]).astype(np.float16)
        codes = np.searchsorted(_IQ4_BOUNDS, groups * _inverse(scale)).astype(np.uint8)
    else:
        center = _CENTERS[kind]
        scale = (extreme / np.float32(-center)).astype(np.float16)
        codes = np.clip(np.rint(groups * _inverse(scale)) + center, 0, 2 * center - 1).astype(np.uint8)
    return pack_group(kind, scale, None, codes)


def _affine(kind: TensorType, groups: Floats) -> NDArray[np.uint8]:
    steps, least = _STEPS[kind], groups.min(axis=1)
    scale = ((groups.max(axis=1) - least) / np.float32(steps)).astype(np.float16)
    minimum = least.astype(np.float16)
    codes = np.clip(np.rint((groups - minimum.astype(np.float32)[:, None]) * _inverse(scale)), 0, steps)
    return pack_group(kind, scale, minimum, codes.astype(np.uint8))


def _q4_k(blocks: Floats) -> NDArray[np.uint8]:
    groups = blocks.reshape(-1, 8, GROUP)
    least = np.minimum(groups.min(axis=2), 0)
    step = (groups.max(axis=2) - least) / np.float32(15)
    d, scales = _quantized_scales(step, 63)
    dmin, minimums = _quantized_scales(-least, 63)
    low = (dmin.astype(np.float32)[:, None] * minimums)[:, :, None]
    inverse = _inverse_of(d.astype(np.float32)[:, None] * scales)[:, :, None]
    codes = np.clip(np.rint((groups + low) * inverse), 0, 15).astype(np.uint8)
    return pack_q4_k(d, dmin, scales, minimums, codes.reshape(-1, SUPER))


def _q6_k(blocks: Floats) -> NDArray[np.uint8]:
    groups = blocks.reshape(-1, 16, 16)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[:, :, None], axis=2)[:, :, 0]
    step = extreme / np.float32(-32)
    widest = np.take_along_axis(step, np.abs(step).argmax(axis=1)[:, None], axis=1)[:, 0]
    d = (widest / np.float32(-128)).astype(np.float16)
    scales = np.clip(np.rint(step * _inverse(d)), -128, 127).astype(np.int8)
    inverse = _inverse_of(d.astype(np.float32)[:, None] * scales)[:, :, None]
    codes = np.clip(np.rint(groups * inverse) + 32, 0, 63).astype(np.uint8)
    return pack_q6_k(d, scales, codes.reshape(-1, SUPER))


def _quantized_scales(values: Floats, most: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Of values ≥ 0 [blocks, groups]: a float16 for each block, and codes 0 to `most` it is to be multiplied with."""
    d = (values.max(axis=1) / np.float32(most)).astype(np.float16)
    return d, np.clip(np.rint(values * _inverse(d)), 0, most).astype(np.uint8)


def _inverse(scale: NDArray[np.float16]) -> Floats:
    return _inverse_of(scale.astype(np.float32))[:, None]


def _inverse_of(values: Floats) -> Floats:
    """1 / value, and 0 where a group is all zeros."""
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)
