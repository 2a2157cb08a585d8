"""Small programs around single operators: rows of a table go in, rows of any buffer come out as logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.formats.weights import TensorType
from native.matrices import Floats, Matrix, identity_matrix

Operand = tuple[int, int, int]
Ints = NDArray[np.int32]
BLOCK = _native.KvPool.BLOCK_TOKENS


def float_matrix(values: Floats) -> Matrix:
    """Wrap floats as an F32 matrix."""
    exact = values.astype(np.float64)
    return Matrix(TensorType.F32, values.view(np.uint8).reshape(-1), exact, np.abs(exact))


def columns(operand: Operand, first: int, width: int) -> Operand:
    """Return a column slice of a buffer."""
    buffer, column, _ = operand
    return buffer, column + first, width


@dataclass(frozen=True, slots=True)
class Batch:
    """The arrays of `Program.run`."""

    token_ids: Ints
    positions: Ints
    sequence_offsets: Ints
    block_tables: Ints
    logit_rows: Ints

    @property
    def arrays(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        return self.token_ids, self.positions, self.sequence_offsets, self.block_tables, self.logit_rows


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence, from position `start` on, and the blocks of its pages."""

    token_ids: Sequence[int]
    start: int = 0
    blocks: Sequence[int] = (0,)


def batch_of(*chunks: Chunk, logit_rows: Sequence[int] | None = None) -> Batch:
    """Concatenate chunks; logits of every token unless `logit_rows` says otherwise."""
    token_ids = [t for chunk in chunks for t in chunk.token_ids]
    positions = [chunk.start + i for chunk in chunks for i in range(len(chunk.token_ids))]
    tables = np.full((len(chunks), max(len(chunk.blocks) for chunk in chunks)), -1, np.int32)
    for row, chunk in zip(tables, chunks, strict=True):
        row[: len(chunk.blocks)] = chunk.blocks
    return Batch(
        np.array(token_ids, np.int32),
        np.array(positions, np.int32),
        np.cumsum([0] + [len(chunk.token_ids) for chunk in chunks], dtype=np.int32),
        tables,
        np.arange(len(token_ids), dtype=np.int32) if logit_rows is None else np.array(logit_rows, np.int32),
    )


def tokens(count: int) -> Batch:
    """Return one sequence of tokens 0, 1, … whose logits are all wanted."""
    return batch_of(Chunk(range(count), blocks=range(-(-count // BLOCK))))


@dataclass(slots=True)
class Bench:
    """Collects operators over buffers that never overlap."""

    max_tokens: int = 80
    max_sequences: int = 4
    builder: _native.ProgramBuilder = field(init=False)
    arena_bytes: int = 0

    def __post_init__(self) -> None:
        self.builder = _native.ProgramBuilder(self.max_tokens, self.max_sequences, self.max_tokens)

    def buffer(self, dtype: str, width: int, rows: str = "tokens") -> Operand:
        """Place a buffer behind the others and return all its columns."""
        index = self.builder.buffer(dtype, width, self.arena_bytes, rows)
        self.arena_bytes += -(-_native.row_bytes(dtype, width) * self.max_tokens // 64) * 64
        return index, 0, width

    def op(
        self,
        kind: str,
        inputs: Sequence[Operand],
        outputs: Sequence[Operand],
        weights: Sequence[object] = (),
        /,
        **attrs: float | int | str,
    ) -> None:
        """Add an operator."""
        self.builder.op(kind, list(inputs), list(outputs), list(weights), attrs)

    def input(self, table: Floats) -> Operand:
        """Return a buffer whose row of token t is table[token id]."""
        out = self.buffer("f32", table.shape[1])
        self.op("embedding", [], [out], [float_matrix(np.ascontiguousarray(table)).item], scale=1.0)
        return out

    def quantized(self, x: Operand, dtype: str) -> Operand:
        """Return x itself for f32, its quantized rows otherwise."""
        if dtype == "f32":
            return x
        out = self.buffer(dtype, x[2])
        self.op("quantize", [x], [out])
        return out

    def output(self, x: Operand, dtype: str = "f32") -> _native.Program:
        """Build the program with the rows of x (quantized ones as their values) as logits."""
        if dtype != "f32":
            values = self.buffer("f32", x[2])
            self.op("linear", [x], [values], [identity_matrix(x[2]).pack(), None])
            x = values
        logits = self.buffer("f32", x[2], "logits")
        self.op("select_rows", [x], [logits])
        return with_panels(self.builder.build(self.arena_bytes))


PANEL_TOKENS = 24


def with_panels(program: _native.Program) -> _native.Program:
    """The program, unpacking weights from PANEL_TOKENS tokens on, so that small batches reach both ways."""
    program.tune(**{**program.tuning, "panel_tokens": PANEL_TOKENS})
    return program


def run(program: _native.Program, batch: Batch, kv: _native.KvPool | None = None) -> Floats:
    """Run one step and return a copy of its logits."""
    program.run(kv or _native.KvPool(1, 1, 32, 64, "f32"), *batch.arrays)
    return program.logits.copy()
