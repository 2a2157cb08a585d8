"""Token sequences in the order they are run, some at a time, as the arrays of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.errors import InvalidRequestError

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Step:
    """Whole sequences, each from its beginning; `first` and `last`: their rows among those of all sequences."""

    first: int
    last: int
    token_ids: Ints
    positions: Ints
    offsets: Ints
    block_tables: Ints

    @property
    def num_tokens(self) -> int:
        """Rows of the step."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps, and the largest of them: most tokens, sequences and pages."""

    steps: tuple[Step, ...]
    max_tokens: int
    max_sequences: int
    max_blocks: int

    @property
    def num_tokens(self) -> int:
        """Of all sequences."""
        return self.steps[-1].last


def make_steps(sequences: Sequence[Any], max_tokens: int) -> Steps:
    """Put token ids [tokens] of sequences into steps of at most so many tokens, in order.

    Raises InvalidRequestError where there are none, or one is longer than a step.
    """
    sequences = [np.asarray(ids, np.int32).reshape(-1) for ids in sequences]
    if not sequences or not all(map(len, sequences)):
        raise InvalidRequestError("a calibration needs text; there is none, or some of it is empty.")
    if (longest := max(map(len, sequences))) > max_tokens:
        raise InvalidRequestError(f"a sequence has {longest} tokens, a step at most {max_tokens}; cut it first.")
    groups: list[list[Ints]] = [[]]
    for ids in sequences:
        if sum(map(len, groups[-1])) + len(ids) > max_tokens:
            groups.append([])
        groups[-1].append(ids)
    steps: list[Step] = []
    for group in groups:
        steps.append(_step(group, steps[-1].last if steps else 0))
    return Steps(
        tuple(steps),
        max(step.num_tokens for step in steps),
        max(len(step.block_tables) for step in steps),
        max(int(step.block_tables.max()) + 1 for step in steps),
    )


def _step(group: list[Ints], first: int) -> Step:
    """Pages are used again from step to step: each holds what is read only while it runs."""
    lengths = [len(ids) for ids in group]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    blocks = [-(-length // _native.KvPool.BLOCK_TOKENS) for length in lengths]
    tables = np.zeros((len(group), max(blocks)), np.int32)
    begin = 0
    for row, count in enumerate(blocks):
        tables[row, :count] = np.arange(begin, begin + count)
        begin += count
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    return Step(first, first + int(offsets[-1]), np.concatenate(group), positions, offsets, tables)
