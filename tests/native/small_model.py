"""A whole transformer of two layers as one program; run as a script it prints a digest of its logits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import miaotui
from miaotui import _native
from miaotui.formats.weights import TensorType
from native.matrices import Floats, make_activations, make_matrix
from native.programs import Bench, Chunk, Operand, batch_of, columns, float_matrix, run, with_panels

HIDDEN, HEADS, KV_HEADS, DIM, FFN, VOCAB, LAYERS = 256, 4, 2, 64, 256, 50, 2
INV_FREQ = (1000.0 ** (-np.arange(DIM // 2) / (DIM // 2))).astype(np.float32)


class SmallModel:
    """Program and pages of a model with random weights of one type."""

    def __init__(
        self,
        kind: TensorType = TensorType.Q4_K,
        dtype: str = "q8",
        kv_dtype: str = "f16",
        *,
        layers: int = LAYERS,
        max_tokens: int = 64,
    ) -> None:
        self._seed, self._kind, self._dtype = 0, kind, dtype
        self._bench = Bench(max_tokens)
        self._table = self._bench.builder.rope_table(INV_FREQ)
        x = self._bench.input(make_activations(VOCAB, HIDDEN, "normal", 99))
        for layer in range(layers):
            x = self._layer(layer, x)
        normed = self._norm(x)
        rows = self._bench.buffer("f32", HIDDEN, "logits")
        logits = self._bench.buffer("f32", VOCAB, "logits")
        if dtype == "f32":
            self._bench.op("select_rows", [normed], [rows])
            self._bench.op("linear", [rows], [logits], [self._matrix(VOCAB, HIDDEN), None])
        else:
            quantized = self._bench.buffer(dtype, HIDDEN, "logits")
            self._bench.op("select_rows", [x], [rows])
            self._bench.op("quantize", [rows], [quantized])
            self._bench.op("linear", [quantized], [logits], [self._matrix(VOCAB, HIDDEN), None])
        self.program = with_panels(self._bench.builder.build(self._bench.arena_bytes))
        self.kv = _native.KvPool(layers, KV_HEADS, DIM, 64, kv_dtype)

    def run(self, *chunks: Chunk) -> Floats:
        """Return the logits of every token of one step."""
        return run(self.program, batch_of(*chunks), self.kv)

    def _matrix(self, rows: int, cols: int) -> _native.PackedWeight:
        self._seed += 1
        if self._kind == TensorType.F32:
            return float_matrix(make_activations(rows, cols, "normal", self._seed) / np.float32(16)).pack()
        return make_matrix(self._kind, rows, cols, "normal", self._seed).pack()

    def _norm(self, x: Operand) -> Operand:
        out = self._bench.buffer(self._dtype, HIDDEN)
        gain = np.ones(HIDDEN, np.float32)
        self._bench.op("norm", [x], [out], [gain, None], kind="rms", eps=1e-6, group=HIDDEN)
        return out

    def _layer(self, layer: int, x: Operand) -> Operand:
        b = self._bench
        merged = b.buffer("f32", (HEADS + 2 * KV_HEADS) * DIM)
        q = columns(merged, 0, HEADS * DIM)
        k, v = (columns(merged, (HEADS + i * KV_HEADS) * DIM, KV_HEADS * DIM) for i in (0, 1))
        sizes = (HEADS * DIM, KV_HEADS * DIM, KV_HEADS * DIM)
        b.op("linear", [self._norm(x)], [q, k, v], [w for n in sizes for w in (self._matrix(n, HIDDEN), None)])
        page = {"layer": layer, "head_dim": DIM}
        b.op("rope_kv", [q, k, v], [q], table=self._table, rope_dim=DIM, pairing="neox", **page)
        attended = b.buffer(self._dtype, HEADS * DIM)
        b.op(
            "attention", [q], [attended], num_kv_heads=KV_HEADS, scale=DIM**-0.5, window=0, softcap=0.0, **page
        )  # fmt: skip
        mixed = b.buffer("f32", HIDDEN)
        b.op("linear", [attended, x], [mixed], [self._matrix(HIDDEN, HEADS * DIM), None])
        gated = b.buffer(self._dtype, FFN)
        weights = [self._matrix(FFN, HIDDEN), self._matrix(FFN, HIDDEN)]
        b.op("gated_linear", [self._norm(mixed)], [gated], weights, activation="silu")
        out = b.buffer("f32", HIDDEN)
        b.op("linear", [gated, mixed], [out], [self._matrix(HIDDEN, FFN), None])
        return out


def story_of(seed: int, length: int) -> list[int]:
    """Return token ids of one sequence."""
    return [int(t) for t in np.random.default_rng(seed).integers(0, VOCAB, length)]


def digest() -> str:
    """Return a hash of the logits of a ragged step, a prefill long enough for panels and some decoding."""
    model = SmallModel()
    steps = [
        model.run(Chunk(story_of(1, 40), 0, [0, 1, 2]), Chunk(story_of(2, 9), 0, [3])),
        model.run(Chunk([7], 40, [0, 1, 2]), Chunk([8, 9], 9, [3])),
    ]
    return hashlib.sha256(b"".join(step.tobytes() for step in steps)).hexdigest()


def python(code: str, *, timeout_s: float = 120, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that sees this package and these tests; None removes a variable."""
    folders = [str(Path(miaotui.__file__).parents[1]), str(Path(__file__).parents[1])]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])} | environment
    return subprocess.run(
        [sys.executable, "-c", code],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
