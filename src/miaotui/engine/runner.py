"""Turns a scheduled step into the arrays of a batch and runs the program on them: one native call."""

from __future__ import annotations

from collections.abc import Sequence as Row
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from miaotui.engine.scheduler import StepLimits

Int32Array = NDArray[np.int32]


class Readable(Protocol):
    """A text as a program reads it: `Sequence`, or what a draft model has of one."""

    @property
    def token_ids(self) -> list[int]:
        """All tokens."""

    @property
    def num_computed_tokens(self) -> int:
        """Tokens whose keys and values are in the pages."""

    @property
    def block_table(self) -> Int32Array:
        """Page numbers by position // 16; another array whenever they change."""


class Part(Protocol):
    """A text's share of a step; see `Slice`."""

    @property
    def sequence(self) -> Readable:
        """The text."""

    @property
    def num_tokens(self) -> int:
        """Tokens to read, drafted ones included."""

    @property
    def num_read(self) -> int:
        """The same without them."""

    @property
    def num_logit_rows(self) -> int:
        """Of how many tokens at the end logits are wanted."""

    @property
    def draft(self) -> Row[int]:
        """Tokens behind the text."""


class ProgramLike(Protocol):
    """What the engine needs of `_native.Program`."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """[rows, vocabulary] of the last run; overwritten by the next."""

    def run(
        self,
        kv: Any,
        token_ids: Int32Array,
        positions: Int32Array,
        sequence_offsets: Int32Array,
        block_tables: Int32Array,
        logit_rows: Int32Array,
    ) -> None:
        """One forward pass over a ragged batch, reading and writing the pages of `kv`."""


class Runner:
    """A program, its KV pages and the arrays of a batch, allocated once for the largest step."""

    def __init__(self, program: ProgramLike, kv: object, limits: StepLimits, max_blocks: int) -> None:
        self._program = program
        self._kv = kv
        self._token_ids = np.zeros(limits.max_tokens, np.int32)
        self._positions = np.zeros(limits.max_tokens, np.int32)
        self._offsets = np.zeros(limits.max_sequences + 1, np.int32)
        self._block_tables = np.zeros((limits.max_sequences, max_blocks), np.int32)
        self._logit_rows = np.zeros(limits.max_logit_rows, np.int32)
        self._placed: list[Int32Array | None] = [None] * limits.max_sequences  # whose table each row holds

    def run(self, slices: Row[Part]) -> NDArray[np.float32]:
        """Logits [rows, vocabulary], the slices' rows one after the other; valid until the next run.

        Raises whatever the program raises; the sequences are as before then, and what was written to their pages will
        be written again.
        """
        num_tokens = num_rows = 0
        for at, part in enumerate(slices):
            if self._placed[at] is not part.sequence.block_table:
                self._placed[at] = part.sequence.block_table
                self._block_tables[at, : len(part.sequence.block_table)] = part.sequence.block_table
            self._place_tokens(part, num_tokens)
            num_tokens += part.num_tokens
            self._offsets[at + 1] = num_tokens
            for row in range(num_tokens - part.num_logit_rows, num_tokens):
                self._logit_rows[num_rows] = row
                num_rows += 1
        self._program.run(
            self._kv,
            self._token_ids[:num_tokens],
            self._positions[:num_tokens],
            self._offsets[: len(slices) + 1],
            self._block_tables[: len(slices)],
            self._logit_rows[:num_rows],
        )
        return self._program.logits

    def _place_tokens(self, part: Part, at: int) -> None:
        """Ids and positions of a slice's tokens, from index `at` of the batch on."""
        start, count = part.sequence.num_computed_tokens, part.num_tokens
        if part.draft:
            self._token_ids[at + part.num_read : at + count] = part.draft
            self._token_ids[at : at + part.num_read] = part.sequence.token_ids[start:]
            self._positions[at : at + count] = range(start, start + count)
            return
        if count == 1:  # the whole batch while decoding; slicing would cost ten times as much
            self._token_ids[at] = part.sequence.token_ids[start]
            self._positions[at] = start
            return
        self._token_ids[at : at + count] = part.sequence.token_ids[start : start + count]
        self._positions[at : at + count] = range(start, start + count)
