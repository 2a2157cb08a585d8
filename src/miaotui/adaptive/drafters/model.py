"""A small model that says what likely comes next in others' texts: a draft model with pages of its own.

Method: greedy drafts of a smaller model with the same vocabulary, as in speculative decoding (Leviathan et al.,
arXiv:2211.17192; Chen et al., arXiv:2302.01318). What it has not read of a long text before its window it never reads:
drafts need not be right, and its memory stays small (compare MagicDec, Chen et al., arXiv:2408.11049, section 4).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Row
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.drafters.reader import Reader, ReaderPart
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.pages import BLOCK_TOKENS
from miaotui.engine.prefix_tree import extend_keys
from miaotui.engine.runner import Runner
from miaotui.engine.scheduler import StepLimits
from miaotui.engine.sequence import Sequence

if TYPE_CHECKING:
    from miaotui.engine.loading import LoadedModel

ROOM = 32
"""Tokens of its context that are left for guesses and for what comes meanwhile."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A token, and how probable the model takes it to be."""

    token_id: int
    probability: float


class DraftModel:
    """Reads texts of sequences and guesses behind them, all of a step in one run. Pages come from a pool of its own.

    Where there are none left, the text that was asked for longest ago loses its own, never one of the same step; where
    that gives none, nothing is guessed. Full pages can be found again by the same tenant's texts that begin alike, as
    the large model's can. Not safe for concurrent use.

    vocab_size: its own; tokens beyond, which only the large model has, are read as token 0. num_common: tokens that
    both models have; no others are guessed. context_length: most tokens of a text and of guesses behind it.
    """

    def __init__(
        self,
        runner: Runner,
        pool: BlockPool,
        limits: StepLimits,
        *,
        vocab_size: int,
        num_common: int,
        context_length: int,
    ) -> None:
        self.pool, self.limits = pool, limits
        self._runner = runner
        self._vocab_size, self._num_common = vocab_size, num_common
        self._most = max(context_length - ROOM, 1)
        self._readers: OrderedDict[Sequence, Reader] = OrderedDict()  # asked for longest ago first
        self._step = 0

    @classmethod
    def of(cls, loaded: LoadedModel, vocab_size: int) -> DraftModel:
        """A loaded model, whose engine nobody steps, for a large one with so many tokens."""
        scheduler, own = loaded.engine.scheduler, loaded.file.spec.vocab_size
        return cls(
            loaded.engine.runner,
            scheduler.pool,
            scheduler.limits,
            vocab_size=own,
            num_common=min(own, vocab_size),
            context_length=loaded.kv_plan.context.length,
        )

    def begin_step(self) -> None:
        """Another step begins: who is not asked for in it may lose its pages."""
        self._step += 1

    def follow(self, sequence: Sequence, window: int) -> int:
        """How many tokens of a text there are to read until something can be guessed; at least one.

        Where it would have to read more than `window`, it begins anew with the last so many.
        """
        reader, text = self._readers.get(sequence), sequence.token_ids
        if reader is not None:
            reader.follow(self._known(text[reader.origin + reader.num_text :]))
            self._remember(sequence, reader)
            if reader.num_unread > window or len(reader.token_ids) > self._most:
                self.forget(sequence)
                reader = None
        if reader is None:
            reader = self._readers[sequence] = self._begin(sequence, min(window, (self._most + 1) // 2))
        self._readers.move_to_end(sequence)
        reader.used_at = self._step
        return reader.num_unread

    def read(self, sequences: Row[Sequence], most: int) -> list[int]:
        """Read at most so many tokens of texts that were followed in this step, in one run, those of the first first.

        Of each all but the last one at most. Returns how many were read of each.
        """
        counts, parts = [0] * len(sequences), list[ReaderPart]()
        left = min(most, self.limits.max_tokens)
        for at, sequence in enumerate(sequences[: self.limits.max_sequences]):
            reader = self._readers[sequence]
            count = min(left, reader.num_unread - 1)
            count = self._tokens_with_pages(reader, count) if count > 0 else 0
            if count > 0:
                counts[at] = count
                parts.append(ReaderPart(reader, count, 0))
                left -= count
        if parts:
            self._runner.run(parts)
        for sequence, count in zip(sequences, counts, strict=True):
            self._readers[sequence].num_computed_tokens += count
            self._remember(sequence, self._readers[sequence])
        return counts

    def guess(self, sequences: Row[Sequence]) -> list[Guess | None]:
        """The likeliest token behind each text and what was guessed of it, in one run; all were followed in this step.

        None where there is no room: in the run, or in the pool.
        """
        guesses: list[Guess | None] = [None] * len(sequences)
        parts: list[ReaderPart] = []
        taken: list[int] = []
        left = self.limits.max_tokens
        for at, sequence in enumerate(sequences):
            reader = self._readers[sequence]
            count = reader.num_unread
            has_room = count <= left and len(parts) < self.limits.max_sequences
            if not has_room or self._tokens_with_pages(reader, count) < count:
                continue
            parts.append(ReaderPart(reader, count, 1))
            taken.append(at)
            left -= count
        if not parts:
            return guesses
        logits = self._runner.run(parts)
        for row, (at, part) in enumerate(zip(taken, parts, strict=True)):
            guesses[at] = guess = _likeliest(logits[row, : self._num_common])
            part.sequence.num_computed_tokens += part.num_tokens
            part.sequence.token_ids.append(guess.token_id)
            self._remember(sequences[at], part.sequence)
        return guesses

    def forget(self, sequence: Sequence) -> None:
        """Free a text's pages. Harmless for one that it does not know."""
        reader = self._readers.pop(sequence, None)
        if reader is not None:
            self.pool.release(reader.block_table.tolist())

    def check_integrity(self) -> None:
        """Raise RuntimeError unless every page is free or one of the texts', and each text's hold what was read."""
        self.pool.check_integrity(reader.block_table.tolist() for reader in self._readers.values())
        for reader in self._readers.values():
            reader.check_integrity()

    def _begin(self, sequence: Sequence, window: int) -> Reader:
        """A reader of the whole text, where enough of that is in pages already, or of its last tokens."""
        text = sequence.token_ids
        num_pages = (len(text) - 1) // BLOCK_TOKENS  # one token at least is left to read
        extend_keys(sequence.page_keys, text, num_pages)
        found = self.pool.prefixes.find(sequence.page_keys[1 : num_pages + 1])
        num_found = len(found) * BLOCK_TOKENS
        if len(text) - num_found > window or len(text) > self._most:
            origin = max(len(text) - window, 0)
            return Reader(origin, self._known(text[origin:]))
        reader = Reader(0, self._known(text[:]))
        self.pool.share(found)
        reader.add_blocks(found)
        reader.num_computed_tokens, reader.num_findable = num_found, len(found)
        return reader

    def _remember(self, sequence: Sequence, reader: Reader) -> None:
        """Let pages be found that hold the text's beginning for good."""
        if reader.origin or reader.num_sure_pages <= reader.num_findable:
            return
        extend_keys(sequence.page_keys, sequence.token_ids, reader.num_sure_pages)
        for page in range(reader.num_findable, reader.num_sure_pages):
            self.pool.prefixes.remember(sequence.page_keys[page + 1], int(reader.block_table[page]))
        reader.num_findable = reader.num_sure_pages

    def _tokens_with_pages(self, reader: Reader, num_tokens: int) -> int:
        """Take pages for a text's next tokens, others' if need be; for how many there are any."""
        missing = reader.num_missing_blocks(num_tokens)
        while missing > self.pool.num_free and self._drop_idle():
            pass
        if missing:
            reader.add_blocks(self.pool.allocate(min(missing, self.pool.num_free)))
        return min(num_tokens, len(reader.block_table) * BLOCK_TOKENS - reader.num_computed_tokens)

    def _drop_idle(self) -> bool:
        """Forget the text that was asked for longest ago, if that was before this step; whether there was any."""
        for sequence, reader in self._readers.items():
            if reader.used_at == self._step:
                return False
            if len(reader.block_table):
                self.forget(sequence)
                return True
        return False

    def _known(self, token_ids: list[int]) -> list[int]:
        """Tokens as this model has them."""
        if max(token_ids, default=0) < self._vocab_size:
            return token_ids
        return [token if token < self._vocab_size else 0 for token in token_ids]


def _likeliest(logits: NDArray[np.float32]) -> Guess:
    """Of one row. What is no number makes the probability none."""
    token_id = int(logits.argmax())
    with np.errstate(all="ignore"):
        probability = 1.0 / float(np.exp(logits - logits[token_id]).sum())
    return Guess(token_id, probability)
