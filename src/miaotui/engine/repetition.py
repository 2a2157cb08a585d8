"""An answer that goes round in circles: small models asked greedily do, and would until they run out of tokens."""

from __future__ import annotations

import numpy as np

from miaotui.core import RepetitionDetection


class CircleWatch:
    """Watches an output as it grows for a pattern that is said again and again, one token after the other.

    For each length of pattern it knows how many of the last tokens were those of that many before them; a pattern of p
    tokens has come count times when p · (count - 1) of them in a row were. So a token costs one comparison for each
    length, however long the output is.
    """

    def __init__(self, wanted: RepetitionDetection) -> None:
        self._sizes = np.arange(max(wanted.min_pattern_size, 1), wanted.max_pattern_size + 1)
        self._wanted = self._sizes * (wanted.min_count - 1)
        self._same = np.zeros(len(self._sizes), np.int64)
        self._last = np.full(wanted.max_pattern_size, -1, np.int64)  # a ring: no token is -1
        self._at = 0

    def push(self, token_id: int) -> int:
        """The length of the shortest pattern that has now come often enough; 0 for none."""
        before = self._last[self._at - self._sizes]  # negative places count from the ring's end, as they should
        self._same = (self._same + 1) * (before == token_id)
        self._last[self._at] = token_id
        self._at = (self._at + 1) % len(self._last)
        reached = self._same >= self._wanted
        return int(self._sizes[np.argmax(reached)]) if reached.any() else 0
