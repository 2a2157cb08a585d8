"""Prompt lookup: what followed the last tokens the time before, in the prompt or in the answer.

Method: n-gram matching as in Saxena, "Prompt Lookup Decoding" (2023), and LLMA (Yang et al., arXiv:2304.04487).
"""

from __future__ import annotations

from collections.abc import Sequence as Row

SIZES = (8, 4, 2)
"""Lengths of matches that are told apart; the longest is taken."""
LOOKBACK = 8192
"""Of a longer text only the last tokens are known: an index entry takes about 600 bytes."""
READ_AT_ONCE = 128
"""Tokens that are put into the index before a step, which waits for that: about 0.1 ms."""


class PromptLookup:
    """One text as it grows, and where its runs of tokens were last followed by something."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._num_read = 0
        self._behind: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in SIZES}

    def read(self, token_ids: list[int]) -> None:
        """The text is this now: what it was before, and more. A long one is read in several calls."""
        self._ids = token_ids
        begin = max(self._num_read, len(token_ids) - LOOKBACK)
        self._num_read = end = min(begin + READ_AT_ONCE, len(token_ids))
        for size, behind in self._behind.items():
            for at in range(max(begin, size), end):  # what ends the text has nothing behind it yet
                behind[tuple(token_ids[at - size : at])] = at

    def find(self) -> tuple[int, int]:
        """Where what followed begins, and how many tokens agreed before it; (0, 0) where nothing did."""
        ids = self._ids
        if self._num_read == len(ids):
            for size, behind in self._behind.items():
                at = behind.get(tuple(ids[-size:])) if len(ids) > size else None
                if at is not None:
                    return at, size
        return 0, 0

    def behind(self, at: int, count: int) -> Row[int]:
        """So many tokens from there on; where the text ends, it is taken to go round."""
        ids, period = self._ids, len(self._ids) - at
        return ids[at : at + count] if count <= period else [ids[at + i % period] for i in range(count)]
