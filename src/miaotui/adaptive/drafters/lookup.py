"""Lookup: what followed the last tokens the time before, in the prompt or in the answer.

Method: as in Saxena, "Prompt Lookup Decoding" (2023), and LLMA (Yang et al., arXiv:2304.04487), but with the longest
match, of any length, from a suffix automaton (Hu et al., "SAM Decoding", arXiv:2411.10666).
"""

from __future__ import annotations

from miaotui import _native

LOOKBACK = 16384
"""Of a longer text only the last tokens are known: they take about 50 bytes each."""
READ_AT_ONCE = 1024
"""Tokens that are read before a step, which waits for that: about 0.2 ms."""


class PromptLookup:
    """One text as it grows, and where its runs of tokens were last followed by something."""

    def __init__(self) -> None:
        self._automaton = _native.SuffixAutomaton()
        self._num_read = 0
        self._is_complete = False

    @property
    def is_settled(self) -> bool:
        """Whether what the text ends with went on with the same token each time before."""
        return self._automaton.is_settled

    def most_bytes(self, num_tokens: int) -> int:
        """That it takes at most when its text, beside what it knows now, has so many tokens."""
        num_tokens = min(num_tokens, 2 * LOOKBACK + READ_AT_ONCE - self._automaton.num_tokens)
        return self._automaton.most_bytes(num_tokens)

    def read(self, token_ids: list[int]) -> None:
        """The text is this now: what it was before, and more. A long one is read in several calls."""
        if self._automaton.num_tokens >= 2 * LOOKBACK:
            self._automaton, self._num_read = _native.SuffixAutomaton(), 0
        begin = self._num_read or max(len(token_ids) - LOOKBACK, 0)
        self._num_read = end = min(begin + READ_AT_ONCE, len(token_ids))
        self._automaton.append(token_ids[begin:end])
        self._is_complete = end == len(token_ids)

    def find(self, count: int) -> tuple[int, list[int]]:
        """How many tokens at the end agreed with earlier ones, and so many tokens that followed those.

        Where the text ends, it is taken to go round. (0, []) where nothing agreed, or not all has been read yet.
        """
        return self._automaton.repeat(count) if self._is_complete else (0, [])
