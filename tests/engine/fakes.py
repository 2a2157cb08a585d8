"""A stand-in for the compiled program, whose logits depend on the whole prefix as read back through the pages."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from miaotui.core import SamplingParams
from miaotui.engine.admission import ContextLimit
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.engine import Engine, Vocabulary
from miaotui.engine.pages import BLOCK_TOKENS
from miaotui.engine.results import Delta
from miaotui.engine.runner import Runner
from miaotui.engine.scheduler import Scheduler, StepLimits
from miaotui.engine.sequence import Sequence

VOCAB = 64
EOS = 63


def logits_after(prefix: Iterable[int], vocab_size: int = VOCAB) -> np.ndarray:
    """Logits behind these tokens: noise, but always the same noise."""
    digest = zlib.crc32(np.array(list(prefix), np.int64).tobytes())
    return (np.random.default_rng(digest).standard_normal(vocab_size) * 2).astype(np.float32)


class FakeProgram:
    """Writes each token to the page slot it is told, and computes logits from what the slots then hold.

    Checks what the native program may rely on. `before_run` is called with the number of the run.
    """

    def __init__(self, limits: StepLimits, num_blocks: int, vocab_size: int = VOCAB) -> None:
        self.limits = limits
        self.slots = np.full((num_blocks, BLOCK_TOKENS), -1)
        self.vocab_size = vocab_size
        self.logits = np.zeros((0, vocab_size), np.float32)
        self.runs: list[dict[str, Any]] = []
        self.before_run: Callable[[int], None] = lambda number: None

    def run(
        self,
        kv: object,
        token_ids: np.ndarray,
        positions: np.ndarray,
        sequence_offsets: np.ndarray,
        block_tables: np.ndarray,
        logit_rows: np.ndarray,
    ) -> None:
        for array in (token_ids, positions, sequence_offsets, block_tables, logit_rows):
            assert array.dtype == np.int32
            assert array.flags.c_contiguous
        assert 0 < len(token_ids) <= self.limits.max_tokens
        assert len(block_tables) <= self.limits.max_sequences
        assert len(logit_rows) <= self.limits.max_logit_rows
        assert sequence_offsets[0] == 0
        assert sequence_offsets[-1] == len(token_ids)
        self.runs.append({"tokens": len(token_ids), "sequences": len(block_tables), "rows": len(logit_rows)})
        self.before_run(len(self.runs))
        prefixes: list[list[int]] = []
        for at, table in enumerate(block_tables):
            first, end = sequence_offsets[at], sequence_offsets[at + 1]
            assert first < end
            assert np.array_equal(positions[first:end], np.arange(positions[first], positions[first] + end - first))
            for token, position in zip(token_ids[first:end], positions[first:end], strict=True):
                self.slots[table[position // BLOCK_TOKENS], position % BLOCK_TOKENS] = token
            for position in positions[first:end]:
                held = self.slots[table[: position // BLOCK_TOKENS + 1]].reshape(-1)[: position + 1]
                assert (held >= 0).all()
                prefixes.append(held.tolist())
        rows = [logits_after(prefixes[row], self.vocab_size) for row in logit_rows]
        self.logits = np.array(rows, np.float32).reshape(len(rows), self.vocab_size)


class LetterDecoder:
    """Token i is one letter; EOS has no text."""

    def push(self, token_id: int) -> str:
        return "" if token_id == EOS else chr(ord("A") + token_id)

    def finish(self) -> str:
        return ""


def make_engine(
    *,
    num_blocks: int = 64,
    max_tokens: int = 32,
    max_sequences: int = 8,
    max_logit_rows: int = 8,
    context: int = 256,
    vocab_size: int = VOCAB,
) -> tuple[Engine, FakeProgram]:
    limits = StepLimits(max_tokens, max_sequences, max_logit_rows)
    program = FakeProgram(limits, num_blocks, vocab_size)
    runner = Runner(program, object(), limits, -(-context // BLOCK_TOKENS))
    vocabulary = Vocabulary(vocab_size, frozenset({EOS}), LetterDecoder)
    engine = Engine(Scheduler(BlockPool(num_blocks), limits), runner, vocabulary, ContextLimit(context, 2 * context))
    return engine, program


def ignore_time(scheduler: Scheduler) -> None:
    """Steps are of the same tokens however long they take."""
    scheduler.budget.observe = lambda *_: None  # type: ignore[method-assign]


def drain(engine: Engine) -> list[tuple[Sequence, Delta]]:
    """Run to the end, checking the pages after every step."""
    updates = []
    while engine.scheduler.has_work:
        updates += engine.step()
        engine.check_integrity()
    assert engine.scheduler.pool.num_free == engine.scheduler.pool.num_blocks
    return updates


def greedy_tokens(prompt: list[int], count: int) -> list[int]:
    """What the fake program says greedily, computed without an engine."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        tokens.append(int(np.argmax(logits_after(tokens))))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


GREEDY = SamplingParams(temperature=0.0, max_tokens=20)
