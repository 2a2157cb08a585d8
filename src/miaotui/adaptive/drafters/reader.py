"""What a draft model has read of one text, and what it has guessed behind it."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miaotui.engine.pages import BLOCK_TOKENS, num_blocks_for


@dataclass(slots=True, eq=False)
class Reader:
    """A window on a text, from one of its tokens to its end; see `engine.runner.Readable`.

    origin: where it begins in the text. token_ids: the text from there on, then guesses. num_text: of these, tokens of
    the text. num_computed_tokens: tokens whose keys and values are in the pages; those of wrong guesses are written
    over. num_findable: full pages that have been remembered. used_at: step in which it was asked for last.
    """

    origin: int
    token_ids: list[int]
    num_text: int = field(init=False)
    block_table: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    num_computed_tokens: int = 0
    num_findable: int = 0
    used_at: int = 0

    def __post_init__(self) -> None:
        self.num_text = len(self.token_ids)

    @property
    def num_unread(self) -> int:
        """Tokens that are not in the pages yet."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def num_sure_pages(self) -> int:
        """Full pages that hold tokens of the text alone."""
        return min(self.num_computed_tokens, self.num_text) // BLOCK_TOKENS

    def follow(self, more: Row[int]) -> None:
        """The text went on so: guesses that came stay read, the others are forgotten. One token at least is unread."""
        agreed = self.num_text
        for guessed, token in zip(self.token_ids[agreed:], more, strict=False):
            if guessed != token:
                break
            agreed += 1
        self.token_ids[agreed:] = more[agreed - self.num_text :]
        self.num_text = len(self.token_ids)
        self.num_computed_tokens = min(self.num_computed_tokens, agreed, self.num_text - 1)

    def num_missing_blocks(self, num_tokens: int) -> int:
        """Pages that the next so many tokens need beside those it has."""
        return max(num_blocks_for(self.num_computed_tokens + num_tokens) - len(self.block_table), 0)

    def add_blocks(self, blocks: list[int]) -> None:
        """Own more pages."""
        self.block_table = np.append(self.block_table, np.array(blocks, np.int32))

    def check_integrity(self) -> None:
        """Raise RuntimeError unless the pages hold what was read, and what was read is there."""
        if not 0 <= self.num_computed_tokens <= len(self.token_ids) or self.num_text > len(self.token_ids):
            raise RuntimeError(
                f"{self.num_computed_tokens} tokens are read and {self.num_text} are text of {len(self.token_ids)}."
            )
        if num_blocks_for(self.num_computed_tokens) > len(self.block_table):
            raise RuntimeError(f"{self.num_computed_tokens} tokens are said to be in {len(self.block_table)} pages.")
        if self.num_findable > self.num_text // BLOCK_TOKENS:
            raise RuntimeError(f"{self.num_findable} pages can be found of a text of {self.num_text} tokens.")


@dataclass(frozen=True, slots=True)
class ReaderPart:
    """The next tokens of a reader for a run, with logits of the last one or of none; see `engine.runner.Part`."""

    sequence: Reader
    num_tokens: int
    num_logit_rows: int
    draft: tuple[int, ...] = ()

    @property
    def num_read(self) -> int:
        """All of them."""
        return self.num_tokens
