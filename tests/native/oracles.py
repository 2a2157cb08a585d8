"""The kernels in NumPy: float64 where a budget applies, float32 step by step where the bits are fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from native.budgets import FLOOR
from native.matrices import Bytes, Doubles, Floats

Ints = NDArray[np.int64]
GROUP = 32
SMALLEST_GROUP = np.float32(FLOOR)


@dataclass(frozen=True, slots=True)
class QuantizedRows:
    """What a kernel wrote for rows of activations; G = columns / 32."""

    codes: Ints  # [rows][columns], the two bytes of codes put together where a group has both
    scale: Floats  # [rows][G]
    sum: Floats  # [rows][G] scale · Σ codes
    negative: Ints  # [rows][G] −Σ codes
    half_negative: Ints  # [rows][G][2]
    high: Ints  # [rows][G][4] high bytes of one quad
    high_quad: Ints  # [rows][G]

    @property
    def values(self) -> Doubles:
        return self.codes * np.repeat(self.scale.astype(np.float64), GROUP, axis=1)


ROW_GROUP = np.dtype(
    [
        ("codes", np.int8, GROUP),
        ("scale", np.float32),
        ("sum", np.float32),
        ("negative", np.int32),
        ("half_negative", np.int32, 2),
        ("high", np.int8, 4),
        ("high_quad", np.int32),
        ("unused", np.int32),
    ]
)


def read_rows(rows: Bytes, cols: int, wide: bool) -> QuantizedRows:
    """Take the bytes of quantized rows apart."""
    low_at = cols // GROUP * ROW_GROUP.itemsize
    groups = np.ascontiguousarray(rows[:, :low_at]).view(ROW_GROUP)
    codes = groups["codes"].astype(np.int64).reshape(*groups.shape, GROUP // 4, 4)
    if wide:
        codes = 256 * codes + np.ascontiguousarray(rows[:, low_at : low_at + cols]).view(np.int8).reshape(codes.shape)
    at = groups["high_quad"].astype(np.int64)[..., None, None]
    found = np.take_along_axis(codes, at, axis=2) + 256 * groups["high"].astype(np.int64)[..., None, :]
    np.put_along_axis(codes, at, found, axis=2)
    codes = codes.reshape(len(rows), cols)
    others = (np.ascontiguousarray(groups[field.name]) for field in fields(QuantizedRows)[1:])
    return QuantizedRows(codes, *others)


STEPS = {"int8": 127, "int16": 8191}
"""Largest code of keys and values of that type."""


def quantize(x: Floats, group: int = GROUP, steps: int = 127) -> tuple[NDArray[np.int16], Floats]:
    """Return codes and scales of groups, rounded as every tier must round them."""
    grouped = x.reshape(*x.shape[:-1], -1, group)
    largest = np.abs(grouped).max(axis=-1)
    usable = largest >= SMALLEST_GROUP
    factor = np.where(usable, np.float32(steps) / np.where(usable, largest, np.float32(1)), np.float32(0))
    codes = np.rint(grouped * factor[..., None].astype(np.float32)).astype(np.int16)
    return codes.reshape(x.shape), (largest / np.float32(steps)).astype(np.float32)


def quad_magnitudes(x: Floats) -> Doubles:
    """Return the largest magnitude of each four columns of a group [rows][G][8]."""
    return np.abs(x.astype(np.float64)).reshape(x.shape[0], -1, GROUP // 4, 4).max(axis=-1)


def group_steps(x: Floats, wide: bool) -> Doubles:
    """Return the exact quantization step of every value's group."""
    quads = np.sort(quad_magnitudes(x), axis=-1)
    steps = quads[..., -1] / 127 / 256 if wide else np.maximum(quads[..., -2] / 127, quads[..., -1] / 32512)
    return np.repeat(steps, GROUP, axis=1)


def to_bfloat(x: Floats) -> NDArray[np.uint16]:
    """Round finite floats to bfloat16, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat(x: NDArray[np.uint16]) -> Floats:
    return (x.astype(np.uint32) << 16).view(np.float32)


def through_page(x: Floats, kv_dtype: str) -> Doubles:
    """Return keys or values [tokens][head_dim] as a page of that type keeps them."""
    if kv_dtype == "f32":
        return x.astype(np.float64)
    if kv_dtype == "f16":
        return x.astype(np.float16).astype(np.float64)
    if kv_dtype == "bf16":
        return from_bfloat(to_bfloat(x)).astype(np.float64)
    codes, scales = quantize(x, x.shape[-1], STEPS[kv_dtype])
    return codes * scales.astype(np.float64)


def normal_tail(a: Doubles) -> Doubles:
    """Φ(−a) for a ≥ 0: the share of the normal distribution below −a."""
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in a.reshape(-1)]).reshape(a.shape)


def activate(name: str, x: Doubles) -> Doubles:
    """SiLU, ReLU, GELU, or GELU in its tanh form."""
    with np.errstate(over="ignore"):
        if name == "silu":
            return x / (1 + np.exp(-x))
        if name == "relu":
            return np.maximum(x, 0)
        if name == "gelu":
            return x * np.where(x < 0, normal_tail(np.abs(x)), 1 - normal_tail(np.abs(x)))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def norm(kind: str, x: Doubles, gain: Doubles, bias: Doubles | None, eps: float) -> Doubles:
    """RMSNorm or LayerNorm over the last axis."""
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    y = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * gain
    return y if bias is None else y + bias


def rope(x: Doubles, positions: Ints, inv_freq: Floats, scale: float, *, interleaved: bool) -> Doubles:
    """Rotate heads [tokens][head_dim]; columns past the table's dimension stay."""
    half = inv_freq.size
    # The models were trained with angles rounded to float32.
    angles = (positions[:, None].astype(np.float32) * inv_freq[None, :]).astype(np.float64)
    cos, sin = np.cos(angles) * scale, np.sin(angles) * scale
    a, b = (
        (np.s_[:, : 2 * half : 2], np.s_[:, 1 : 2 * half : 2])
        if interleaved
        else (np.s_[:, :half], np.s_[:, half : 2 * half])
    )
    y = x.astype(np.float64).copy()
    y[a] = x[a] * cos - x[b] * sin
    y[b] = x[b] * cos + x[a] * sin
    return y


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Of one sequence: scale of scores, window and softcap (0: none)."""

    scale: float
    window: int = 0
    softcap: float = 0.0


def attention_weights(q: Doubles, k: Doubles, shape: AttentionShape) -> tuple[Doubles, float]:
    """Weights [tokens][heads][positions], the largest 1, of queries at the last positions of k; max Σ|q·k|·scale."""
    num_positions, num_tokens = k.shape[0], q.shape[0]
    scores = np.einsum("thd,pd->thp", q, k) * shape.scale
    largest = float(np.einsum("thd,pd->thp", np.abs(q), np.abs(k)).max() * abs(shape.scale))
    if shape.softcap:
        scores = shape.softcap * np.tanh(scores / shape.softcap)
    position = np.arange(num_positions - num_tokens, num_positions)[:, None]
    seen = np.arange(num_positions)[None, :]
    visible = (seen <= position) & ((seen > position - shape.window) if shape.window else True)
    scores = np.where(visible[:, None, :], scores, -np.inf)
    return np.exp(scores - scores.max(axis=-1, keepdims=True)), largest


def attention(q: Doubles, k: Doubles, v: Doubles, shape: AttentionShape) -> tuple[Doubles, float]:
    """Queries [tokens][heads][dim] at the last positions of k and v [positions][dim]; and the largest Σ|q·k|·scale."""
    weights, largest = attention_weights(q, k, shape)
    return np.einsum("thp,pd->thd", weights / weights.sum(axis=-1, keepdims=True), v), largest


def encoder_attention(q: Doubles, k: Doubles, v: Doubles, scale: float) -> tuple[Doubles, float]:
    """softmax(q · kᵀ · scale) · v of one head [tokens][dim]; and the largest Σ|q·k|·scale."""
    scores = q @ k.T * scale
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    largest = float((np.abs(q) @ np.abs(k).T).max() * abs(scale))
    return weights / weights.sum(axis=1, keepdims=True) @ v, largest


def windows(x: Floats, height: int, width: int, line: int) -> Floats:
    """Windows [rows][height][width][columns] around each row of one sequence, zeros beyond its edges.

    line: rows of a line of the image that the sequence is; 0: it is one line.
    """
    line = line or len(x)
    image = x.reshape(-1, line, x.shape[1])
    above, left = (height - 1) // 2, (width - 1) // 2
    padded = np.pad(image, ((above, height - 1 - above), (left, width - 1 - left), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(0, 1))  # [y][x][columns][h][w]
    return np.ascontiguousarray(views.transpose(0, 1, 3, 4, 2)).reshape(len(x), height, width, x.shape[1])


def quantized_rows(tier: str, x: Floats, wide: bool) -> QuantizedRows:
    """Return what a tier's kernel makes of activations."""
    return read_rows(_native.kernel_quantize(tier, x, wide), x.shape[1], wide)


def rope_magnitudes(x: Doubles, cos: Doubles, sin: Doubles, interleaved: bool) -> Doubles:
    """Return |x_a·cos| + |x_b·sin| for every rotated column, |x| for the others."""
    half = cos.shape[1]
    pairs = [(2 * i, 2 * i + 1) if interleaved else (i, i + half) for i in range(half)]
    y = x.copy()
    for i, (a, b) in enumerate(pairs):
        y[:, a] = x[:, a] * cos[:, i] + x[:, b] * sin[:, i]
        y[:, b] = x[:, b] * cos[:, i] + x[:, a] * sin[:, i]
    return y
