"""How long a matrix takes on this machine's kernels, by type and shape."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from miaotui import _native
from miaotui.formats.weights import TensorType

CACHED_BYTES = 64 << 20
"""So many bytes of other matrices leave nothing of one in the caches, as the rest of a model does."""
MIN_RUNS, MIN_SECONDS = 7, 0.2
"""So often and so long each is run: a machine that others share is disturbed for tens of milliseconds at a time."""
_ALIGNMENT = 64


@cache
def seconds_per_token(kind: TensorType, rows: int, columns: int, num_tokens: int = 1) -> float:
    """Seconds that `y = W x` takes a token in steps of so many, with 16-bit activations: the fastest of some runs.

    What disturbs a run only ever adds to it, by a fifth here and there, which would decide between types otherwise. The
    weights come from memory, not from a cache. Raises ModelFileError for a matrix that cannot be packed.
    """
    num_bytes = rows * columns // kind.block_weights * kind.block_bytes
    weights = np.zeros(num_bytes, np.uint8)  # how fast a product is does not depend on what is multiplied
    copies = _native.pack_weights([(int(kind), weights, rows, columns)] * (1 + CACHED_BYTES // num_bytes))
    program = _program_of(copies, num_tokens)
    pool = _native.KvPool(1, 1, 32, 1, "f32")
    ids = np.zeros(num_tokens, np.int32)
    step = ids, np.arange(num_tokens, dtype=np.int32), np.array([0, num_tokens], np.int32)
    blocks = np.zeros((1, -(-num_tokens // _native.KvPool.BLOCK_TOKENS)), np.int32)
    times: list[float] = []
    begin = time.monotonic()
    while len(times) < MIN_RUNS or time.monotonic() - begin < MIN_SECONDS:
        program.profile(True)
        program.run(pool, *step, blocks, ids[:1])
        times.append(sum(program.op_times()[2:-1]))
    return min(times) / len(copies) / num_tokens


def _program_of(matrices: list[_native.PackedWeight], num_tokens: int) -> _native.Program:
    """Products of one row with matrix after matrix, each over the other's result."""
    rows, columns = matrices[0].rows, matrices[0].cols
    dtype = "f32" if TensorType(matrices[0].type).block_weights == 1 else "q16"
    builder = _native.ProgramBuilder(num_tokens, 1, 1)
    ends = [0]

    def buffer(kind: str, width: int, place: str = "tokens") -> tuple[int, int, int]:
        size = _native.row_bytes(kind, width) * (num_tokens if place == "tokens" else 1)
        number = builder.buffer(kind, width, ends[-1], place)
        ends.append(ends[-1] + -(-size // _ALIGNMENT) * _ALIGNMENT)
        return number, 0, width

    read, codes, out = buffer("f32", columns), buffer("q16", columns), buffer("f32", rows)
    table = np.ones(columns, np.float32).view(np.uint8)
    builder.op("embedding", [], [read], [(int(TensorType.F32), table, 1, columns)], {"scale": 1.0})
    builder.op("quantize", [read], [codes], [], {})
    for matrix in matrices:
        builder.op("linear", [read if dtype == "f32" else codes], [out], [matrix, None], {})
    builder.op("select_rows", [out], [buffer("f32", rows, "logits")], [], {})
    return builder.build(ends[-1])
