"""Decides which sequences put how many tokens into the next step, and which pages they own."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterable
from collections.abc import Sequence as Row
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from miaotui.engine.block_pool import BlockPool
from miaotui.engine.drafter import Drafter
from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for
from miaotui.engine.prefix_store import PrefixStore
from miaotui.engine.prefix_tree import Key, extend_keys
from miaotui.engine.sequence import Sequence
from miaotui.engine.step_budget import StepBudget
from miaotui.engine.waiting import WaitingLine

PAGES_READ_AT_ONCE = 16
"""From disk, between two steps."""
QUANTUM_TOKENS = 64
"""A sequence gets on by so many before somebody else, whose turn it is, may have its place."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The largest step the program was compiled for."""

    max_tokens: int
    max_sequences: int
    max_logit_rows: int


class Slice(NamedTuple):
    """A sequence's share of a step: its next pending tokens, then `draft`, with logits of the last `num_logit_rows`.

    num_tokens: of both together.
    """

    sequence: Sequence
    num_tokens: int
    num_logit_rows: int
    draft: tuple[int, ...] = ()

    @property
    def num_read(self) -> int:
        """Pending tokens that are read, whatever becomes of the draft."""
        return self.num_tokens - len(self.draft)


class Scheduler:
    """Every answer that runs has a token in every step; what is left goes to prompts, those nearest their end first.

    Where no prompt could be read, it may go to drafted tokens. Pages are taken as they are needed, after those that
    already hold a prefix of the tokens. Where none are left, the least urgent and latest sequence gives its pages up
    and waits, to be read again: the first one always gets on. So does one that has had its turn while somebody waits
    whose turn comes before its own.
    """

    def __init__(
        self,
        pool: BlockPool,
        limits: StepLimits,
        *,
        reuse_prefixes: bool = True,
        saved: PrefixStore | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.pool = pool
        self.drafter = drafter
        self.saved = saved
        self.limits = limits
        self.budget = StepBudget(limits.max_tokens)
        self.waiting = WaitingLine()
        self.running: list[Sequence] = []  # most urgent first, then by admission
        self.num_unfinished = 0
        """Those that wait or run: one number, so that other threads never read one on its way twice or not at all."""
        self._num_read = 0  # tokens of all prompts so far: the clock by which they wait
        self.num_preemptions = 0
        self.drafting_s = 0.0
        """Of the step scheduled last, what guessing took."""
        self.quantum_tokens = QUANTUM_TOKENS
        self._reuse_prefixes = reuse_prefixes

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return self.num_unfinished > 0

    def add(self, group: Iterable[Sequence]) -> None:
        """Queue a request's sequences; the caller has checked that the empty pool could hold them."""
        for sequence in group:
            self.waiting.add(sequence)
            self.num_unfinished += 1

    def schedule(self) -> list[Slice]:
        """The next step: admits what fits, then shares the step's tokens out. Empty when there is nothing to do."""
        self.drafting_s = 0.0
        while (sequence := self.waiting.first()) is not None and self._admit(sequence):
            pass
        slices = self._go_on()
        num_taken = sum(part.num_tokens for part in slices)
        num_waiting = self.num_unfinished - len(slices)
        if self.drafter is not None and slices and self._nobody_could_be_read(slices):
            slices = self._with_drafts(slices, self.drafter, num_taken)
        else:
            num_tokens = min(self.budget.prompt_tokens(len(slices), num_waiting), self.limits.max_tokens - num_taken)
            if len(slices) < len(self.running):
                slices += self._read_prompts(num_tokens, self.limits.max_logit_rows - len(slices))
        for part in slices:
            self.waiting.serve(part.sequence, part.num_read)
        return slices

    def accept(self, sequence: Sequence, num_tokens: int) -> None:
        """So many tokens of its draft came: the model has read them, and they count as those it read otherwise."""
        self.waiting.serve(sequence, num_tokens)
        self.advance(sequence, num_tokens)

    def _nobody_could_be_read(self, slices: Row[Slice]) -> bool:
        """Whether all that run have their part of a step, and those that wait have no place."""
        has_place = len(self.running) < self.limits.max_sequences
        return len(slices) == len(self.running) and not (has_place and len(self.waiting))

    def advance(self, sequence: Sequence, num_tokens: int) -> None:
        """The model has read so many of its pending tokens; pages that are full now can be found from now on."""
        sequence.num_computed_tokens += num_tokens
        num_full = sequence.num_computed_tokens // BLOCK_TOKENS
        first = (sequence.num_computed_tokens - num_tokens) // BLOCK_TOKENS
        if num_full > first:
            extend_keys(sequence.page_keys, sequence.token_ids, num_full)
            for page in range(first, num_full):
                self.pool.prefixes.remember(sequence.page_keys[page + 1], int(sequence.block_table[page]))

    def num_found_tokens(self, sequence: Sequence) -> int:
        """Of its prompt, how many tokens are in pages that memory holds at this moment."""
        return len(self.pool.prefixes.find(self._prefix_keys(sequence))) * BLOCK_TOKENS

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, whether it waits or runs, and free its pages. Harmless for one that is out already.

        And for one that had its place before this was `emptied`.
        """
        if sequence.has_place and sequence in self.running:
            self._stop(sequence)
        elif sequence not in self.waiting:
            return
        self.waiting.leave(sequence)
        self.num_unfinished -= 1

    def unfinished(self) -> list[Sequence]:
        """Every sequence that waits or runs."""
        return [*self.running, *self.waiting]

    def emptied(self) -> Scheduler:
        """One that decides alike and has learned as much, with nothing in its pages and nobody waiting."""
        fresh = copy(self)
        fresh.pool, fresh.waiting = BlockPool(self.pool.num_blocks), WaitingLine()
        fresh.running, fresh.num_unfinished = [], 0
        return fresh

    def check_integrity(self) -> None:
        """Raise RuntimeError unless the running sequences own exactly the pages in use, and all are counted."""
        if self.num_unfinished != len(self.running) + len(self.waiting):
            raise RuntimeError(
                f"{self.num_unfinished} sequences are counted, {len(self.running)} run and {len(self.waiting)} wait."
            )
        if any(not s.has_place for s in self.running) or any(s.has_place for s in self.waiting):
            raise RuntimeError("a sequence runs without a place, or waits with one.")
        self.pool.check_integrity(sequence.block_table.tolist() for sequence in self.running)

    def _admit(self, sequence: Sequence) -> bool:
        """Give it a place and the pages that hold its beginning already, if the rest of its tokens will find room."""
        if len(self.running) >= self.limits.max_sequences and not self._make_way(sequence):
            return False
        if self.saved is not None and not sequence.has_looked_on_disk:
            sequence.has_looked_on_disk = self._restore(self._prefix_keys(sequence), self.saved)
            if not sequence.has_looked_on_disk:
                return False  # more of it in the next step; those that run go on between
        found = self.pool.prefixes.find(self._prefix_keys(sequence))
        num_idle = sum(self.pool.is_idle(block) for block in found)
        promised = sum(s.num_missing_blocks + 1 for s in self.running)  # and one more each, for what they will say
        if sequence.num_missing_blocks - len(found) + promised > self.pool.num_free - num_idle:
            self._make_way(sequence)  # it looks again in the next step
            return False
        self.waiting.take(sequence)
        self.pool.share(found)
        sequence.block_table = np.array(found, np.int32)
        sequence.begin_turn(len(found) * BLOCK_TOKENS, self.quantum_tokens)
        sequence.has_place, sequence.placed_at = True, self._num_read
        insort(self.running, sequence, key=lambda s: s.request.priority)
        return True

    def _make_way(self, sequence: Sequence) -> bool:
        """Send one back whose turn comes after that of this one, which waits; whether there is any such."""
        other = self.waiting.who_yields(sequence, self.running)
        if other is not None:
            self._send_back(other)
        return other is not None

    def _send_back(self, sequence: Sequence) -> None:
        """Have it wait again. Its pages can be found until others take them; the rest is read a second time."""
        self._stop(sequence)
        sequence.restart()
        self.waiting.put_back(sequence)
        self.num_preemptions += 1

    def _prefix_keys(self, sequence: Sequence) -> list[Key]:
        """Keys of pages that may hold its first tokens, leaving one to read and all those whose logits are wanted."""
        if not self._reuse_prefixes and sequence.parent is None:
            return []
        scored = sequence.first_scored_position
        end = len(sequence.token_ids) - 1
        num_pages = (end if scored is None else min(end, scored)) // BLOCK_TOKENS
        extend_keys(sequence.page_keys, sequence.token_ids, num_pages)
        return sequence.page_keys[1 : num_pages + 1]

    def _restore(self, keys: list[Key], saved: PrefixStore) -> bool:
        """Read pages from disk that come behind those which memory holds, a few; whether that was all."""
        found = self.pool.prefixes.find(keys)
        first = len(found)
        self.pool.share(found)  # or they might be taken for what is read
        for key in keys[first : first + PAGES_READ_AT_ONCE]:
            if key not in saved or self.pool.num_free == 0:
                break
            (block,) = self.pool.allocate(1)
            if not saved.load(key, block):
                self.pool.release([block])
                break
            self.pool.prefixes.remember(key, block)
            found.append(block)
        self.pool.release(found)
        saved.touch(keys[first : len(found)])
        return len(found) < first + PAGES_READ_AT_ONCE

    def _go_on(self) -> list[Slice]:
        """The answers' next tokens: one each, or a few where a grammar left no choice and the step has room."""
        if self.running:
            self._get_pages(self.running[0])  # before others have a place in the step, which they would lose
        answering = [s for s in list(self.running) if s.is_answering and self._get_pages(s)]
        answering = [s for s in answering if s.has_place]  # some gave their pages up for others
        num_spare = self.limits.max_tokens - len(answering)
        slices: list[Slice] = []
        for sequence in answering:
            num_pending = sequence.num_pending_tokens
            num_tokens = min(num_pending, 1 + num_spare)
            num_spare -= num_tokens - 1
            slices.append(Slice(sequence, num_tokens, int(num_tokens == num_pending)))
        return slices

    def _with_drafts(self, slices: list[Slice], drafter: Drafter, num_taken: int) -> list[Slice]:
        """Answers' slices with drafts behind them, where step and pages have room: nobody gives any up for a draft."""
        room = min(self.limits.max_tokens - num_taken, self.limits.max_logit_rows - len(slices))
        start_s = time.monotonic()
        drafts = drafter.draft([part.sequence for part in slices if part.num_logit_rows], room)
        self.drafting_s = time.monotonic() - start_s
        return [self._with_draft(part, drafts[part.sequence]) if part.sequence in drafts else part for part in slices]

    def _with_draft(self, part: Slice, draft: Row[int]) -> Slice:
        """Only pages that nobody needs in this step or the next are taken for what may be thrown away."""
        sequence = part.sequence
        end = part.num_tokens + min(len(draft), sequence.num_draftable_tokens)
        if self.pool.num_free <= len(self.running):
            end = min(end, len(sequence.block_table) * BLOCK_TOKENS - sequence.num_computed_tokens)
        taken = tuple(draft[: self._num_tokens_with_pages(sequence, end) - part.num_tokens])
        return Slice(sequence, part.num_tokens + len(taken), 1 + len(taken), taken)

    def _read_prompts(self, tokens_left: int, rows_left: int) -> list[Slice]:
        """Slices of the prompts, urgent ones first; of others those with least to read, but nobody's rest lets more
        pass than it has tokens. Each leaves a quarter to the others.

        Equal shares would let all of them end late. By what is left alone, one that is a little longer than those that
        keep coming would never be read.
        """
        reading = [s for s in self.running if not s.is_answering]
        reading.sort(key=lambda s: (s.request.priority, s.placed_at + s.num_pending_tokens))
        slices: list[Slice] = []
        for position, sequence in enumerate(reading):
            is_last = position == len(reading) - 1
            share = tokens_left if is_last else -(-tokens_left * 3 // 4)
            share = self._num_tokens_with_pages(sequence, min(share, sequence.num_pending_tokens))
            part = next_slice(sequence, share, rows_left)
            if part is not None:
                slices.append(part)
                self._num_read += part.num_tokens
                tokens_left -= part.num_tokens
                rows_left -= part.num_logit_rows
        return slices

    def _num_tokens_with_pages(self, sequence: Sequence, num_tokens: int) -> int:
        """Take free pages for the sequence's next tokens; for how many there are any."""
        missing = num_blocks_for(sequence.num_computed_tokens + num_tokens) - len(sequence.block_table)
        if missing > 0:
            sequence.add_blocks(self.pool.allocate(min(missing, self.pool.num_free)))
        return min(num_tokens, len(sequence.block_table) * BLOCK_TOKENS - sequence.num_computed_tokens)

    def _get_pages(self, sequence: Sequence) -> bool:
        """See that its next token has a page, or all if it is answering; if need be they are the last sequence's.

        False if that was the same one, or it has lost its own already.
        """
        if not sequence.has_place:
            return False
        num_tokens = sequence.num_pending_tokens if sequence.is_answering else 1
        while (missing := num_blocks_for(sequence.num_computed_tokens + num_tokens) - len(sequence.block_table)) > 0:
            if self.pool.num_free > 0:
                sequence.add_blocks(self.pool.allocate(min(missing, self.pool.num_free)))
                continue
            last = self.running[-1]
            self._send_back(last)
            if last is sequence:
                return False
        return True

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        sequence.has_place = False
        blocks, sequence.block_table = sequence.block_table, np.empty(0, np.int32)
        self.pool.release(blocks.tolist())


def num_group_blocks(group: Iterable[Sequence]) -> int:
    """Pages that a request's sequences take together at most, the first's full prompt pages counted once."""
    return sum(s.num_blocks - s.num_prompt_pages * (s.parent is not None) for s in group)


def next_slice(sequence: Sequence, tokens_left: int, rows_left: int) -> Slice | None:
    """The most of a sequence's pending tokens that the step can still take.

    Logits are wanted for the last pending token and for every prompt position that is scored; both lie at the end of
    the slice.
    """
    start = sequence.num_computed_tokens
    end = start + min(sequence.num_pending_tokens, tokens_left)
    scored = sequence.first_scored_position
    first_row = len(sequence.token_ids) - 1 if scored is None else min(max(scored, start), len(sequence.token_ids) - 1)
    end = min(end, first_row + rows_left)
    if end <= start:
        return None
    return Slice(sequence, end - start, max(end - first_row, 0))
