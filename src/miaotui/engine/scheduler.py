"""Decides which sequences put how many tokens into the next step, and which pages they own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from miaotui.engine.block_pool import BLOCK_TOKENS, BlockPool
from miaotui.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The largest step the program was compiled for."""

    max_tokens: int
    max_sequences: int
    max_logit_rows: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A sequence's share of a step: its next `num_tokens` pending tokens, with logits of the last `num_logit_rows`."""

    sequence: Sequence
    num_tokens: int
    num_logit_rows: int


class Scheduler:
    """First come, first served. A request's sequences are admitted together once pages for all they may become are
    free, so nothing that runs can run out of memory. Every decoding sequence has a token in every step; what the step
    has left goes to prompts in order of admission, in chunks.
    """

    def __init__(self, pool: BlockPool, limits: StepLimits) -> None:
        self.pool = pool
        self.limits = limits
        self.waiting: deque[list[Sequence]] = deque()
        self.running: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self.waiting or self.running)

    def add(self, group: list[Sequence]) -> None:
        """Queue a request's sequences; the caller has checked that the empty pool could hold them."""
        self.waiting.append(group)

    def schedule(self) -> list[Slice]:
        """The next step: admits what fits, then shares the step's tokens out. Empty when there is nothing to do."""
        while self.waiting and self._admit(self.waiting[0]):
            self.waiting.popleft()
        slices: list[Slice] = []
        tokens_left, rows_left = self.limits.max_tokens, self.limits.max_logit_rows
        for sequence in self._by_turn():
            part = _next_slice(sequence, tokens_left, rows_left)
            if part is not None:
                slices.append(part)
                tokens_left -= part.num_tokens
                rows_left -= part.num_logit_rows
        return slices

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, whether it waits or runs, and free its pages. Harmless for one that is out already."""
        if sequence in self.running:
            self.running.remove(sequence)
            blocks, sequence.block_table = sequence.block_table, np.empty(0, np.int32)
            self.pool.release(blocks.tolist())
            return
        for group in list(self.waiting):
            if sequence in group:
                group.remove(sequence)
            if not group:
                self.waiting.remove(group)

    def unfinished(self) -> list[Sequence]:
        """Every sequence that waits or runs."""
        return [*self.running, *(sequence for group in self.waiting for sequence in group)]

    def check_integrity(self) -> None:
        """Raise RuntimeError unless the running sequences own exactly the pages in use."""
        self.pool.check_integrity(sequence.block_table.tolist() for sequence in self.running)

    def _by_turn(self) -> Iterator[Sequence]:
        yield from (s for s in self.running if s.num_pending_tokens == 1)
        yield from (s for s in self.running if s.num_pending_tokens > 1)

    def _admit(self, group: list[Sequence]) -> bool:
        if len(self.running) + len(group) > self.limits.max_sequences or num_group_blocks(group) > self.pool.num_free:
            return False
        for sequence in group:
            shared: list[int] = []
            if sequence.parent is not None:
                shared = sequence.parent.block_table[: sequence.num_shared_tokens // BLOCK_TOKENS].tolist()
                self.pool.share(shared)
            blocks = shared + self.pool.allocate(sequence.num_blocks - len(shared))
            sequence.block_table = np.array(blocks, np.int32)
            sequence.num_computed_tokens = sequence.num_shared_tokens
            self.running.append(sequence)
        return True


def num_group_blocks(group: Iterable[Sequence]) -> int:
    """Pages that a request's sequences take together, shared ones counted once."""
    return sum(s.num_blocks - s.num_shared_tokens // BLOCK_TOKENS for s in group)


def _next_slice(sequence: Sequence, tokens_left: int, rows_left: int) -> Slice | None:
    """The most of a sequence's pending tokens that the step can still take.

    Logits are wanted for the last pending token and for every prompt position that is scored; both lie at the end of
    the slice.
    """
    if not sequence.is_ready:
        return None
    start = sequence.num_computed_tokens
    end = start + min(sequence.num_pending_tokens, tokens_left)
    scored = sequence.first_scored_position
    first_row = len(sequence.token_ids) - 1 if scored is None else min(max(scored, start), len(sequence.token_ids) - 1)
    end = min(end, first_row + rows_left)
    if end <= start:
        return None
    return Slice(sequence, end - start, max(end - first_row, 0))
