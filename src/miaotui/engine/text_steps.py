"""Steps of programs that read whole texts: which texts go together, and the arrays of one native call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from miaotui import _native

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class TextSteps:
    """Not safe for concurrent use.

    longest_text, num_tokens: most tokens of one text and of a step; num_texts: most texts of a step.
    """

    def __init__(self, longest_text: int, num_tokens: int, num_texts: int) -> None:
        self.num_tokens, self.num_texts = num_tokens, num_texts
        # A program reads and checks pages even where it has no use for them: one page stands for all of them.
        self._kv = _native.KvPool(1, 1, 16, 1, "f32")
        self._block_tables = np.zeros((num_texts, -(-longest_text // _native.KvPool.BLOCK_TOKENS)), np.int32)
        self._every = np.arange(num_tokens, dtype=np.int32)

    def groups(self, lengths: Sequence[int] | Ints) -> Iterator[list[int]]:
        """Which texts go into each step, by number: the longest first, as many as it holds."""
        longest_first = sorted(range(len(lengths)), key=lambda i: -int(lengths[i]))
        at = 0
        while at < len(longest_first):
            end, num_tokens = at, 0
            while end < len(longest_first) and end - at < self.num_texts:
                num_tokens += int(lengths[longest_first[end]])
                if num_tokens > self.num_tokens:
                    break
                end += 1
            yield longest_first[at:end]
            at = end

    def run(self, program: _native.Program, ids: Ints, lengths: Ints, *, every_token: bool = False) -> Floats:
        """One native call over texts of these lengths, whose ids [tokens] stand one behind the other.

        A row for each text, or for every token; a view that the program's next run overwrites.
        """
        offsets = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        positions = np.arange(len(ids), dtype=np.int32) - np.repeat(offsets[:-1], lengths)
        rows = self._every[: len(ids)] if every_token else offsets[:-1]
        program.run(self._kv, ids, positions, offsets, self._block_tables[: len(lengths)], rows)
        return program.logits
