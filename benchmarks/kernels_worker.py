"""One build of the native library in a process of its own: runs steps of a program. Started by kernels.py.

usage: kernels_worker.py MODEL ACTIVATIONS
The first line tells what was loaded, what the machine can do at most, and how many tiles of 16×32 quantized weights are
multiplied with every token and with every row of logits. A question is [answers, prompt tokens], the answer the step's
seconds: so many sequences decode a token behind CONTEXT others, and a prompt is read from its beginning.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, cast

import numpy as np

from miaotui import LLM, _native
from miaotui.core import Activations

CONTEXT, MOST_ANSWERS, MOST_PROMPT = 256, 16, 256
TILE_WEIGHTS = 16 * 32


class Steps:
    """A program and KV pages of its own; each sequence has its pages, the prompt those behind all of them."""

    def __init__(self, llm: LLM) -> None:
        loaded, spec = llm.loaded, llm.loaded.file.spec
        self._program = loaded.compiled.program
        self._num_blocks = -(-(CONTEXT + MOST_PROMPT) // _native.KvPool.BLOCK_TOKENS)  # of one sequence
        total = self._num_blocks * (MOST_ANSWERS + 1)
        self._kv = _native.KvPool(spec.num_layers, spec.num_kv_heads, spec.head_dim, total, loaded.kv_dtype)
        self._vocab_size = spec.vocab_size
        for sequence in range(MOST_ANSWERS):  # pages never written are not there: reading them costs nothing
            self._run(self._batch([(sequence, 0, CONTEXT)]))

    def seconds(self, answers: int, prompt_tokens: int) -> float:
        """Of one step, behind another that wakes the threads, while those of other processes fall asleep."""
        batch = self._step(answers, prompt_tokens)
        self._run(self._step(1, 0))
        start_s = time.perf_counter()
        self._run(batch)
        return time.perf_counter() - start_s

    def _run(self, batch: tuple[Any, ...]) -> None:
        self._program.run(self._kv, *batch)

    def _step(self, answers: int, prompt_tokens: int) -> tuple[Any, ...]:
        parts = [(sequence, CONTEXT, 1) for sequence in range(answers)]
        return self._batch([*parts, (MOST_ANSWERS, 0, prompt_tokens)] if prompt_tokens else parts)

    def _batch(self, parts: list[tuple[int, int, int]]) -> tuple[Any, ...]:
        """What `Program.run` takes, for parts of (sequence, first position, tokens)."""
        positions = np.concatenate([np.arange(first, first + count) for _, first, count in parts]).astype(np.int32)
        token_ids = ((np.arange(len(positions)) * 7919 + 13) % self._vocab_size).astype(np.int32)
        ends = np.cumsum([count for *_, count in parts])
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        tables = [np.arange(self._num_blocks) + sequence * self._num_blocks for sequence, *_ in parts]
        return token_ids, positions, offsets, np.array(tables, np.int32), (ends - 1).astype(np.int32)


def tiles(llm: LLM) -> dict[str, float]:
    """Of quantized matrices, by the rows that they are multiplied with."""
    found = {"tokens": 0.0, "logits": 0.0}
    for node in llm.loaded.compiled.graph.nodes:
        if node.kind in ("linear", "gated_linear") and node.inputs[0].dtype in ("q8", "q16"):
            weights = sum(matrix.num_rows * matrix.num_cols for matrix in node.matrices)
            found[node.outputs[0].rows] += weights / TILE_WEIGHTS
    return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    model, activations = sys.argv[1:]
    llm = LLM(
        model,
        activations=cast(Activations, activations),
        tune=False,
        pack_cache_bytes=0,
        max_sequences=MOST_ANSWERS + 1,
        max_logit_rows=MOST_ANSWERS + 1,
        context_length=1024,
    )
    steps, info = Steps(llm), _native.cpu_info()
    facts = {"library": _native.__file__, "tier": info["tier"], "threads": info["threads"], "tiles": tiles(llm)}
    print(json.dumps(facts | {"ceilings": _native.measure_ceilings()}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(steps.seconds(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
