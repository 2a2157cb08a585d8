"""How much the bodies of all requests under way may take together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from miaotui.errors import OverloadedError

FREE_BYTES = 64 << 10
"""So much of each body is not counted, for long ones are not to keep ordinary requests out; the number of connections
bounds it."""


class BodyBudget:
    """Bytes of bodies, counted as they come and given back when their requests end. For use on one loop."""

    def __init__(self, most_bytes: int) -> None:
        self.used_bytes = 0
        self._most_bytes = most_bytes

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """One request's part, for as long as it goes on."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.used_bytes -= share.counted_bytes

    def take(self, num_bytes: int) -> None:
        """Raises OverloadedError where that is more than is left."""
        if self.used_bytes + num_bytes > self._most_bytes:
            text = f"too many long requests are under way; try again in a moment, or send less than {FREE_BYTES} bytes."
            raise OverloadedError(text, what="bodies")
        self.used_bytes += num_bytes


class BodyShare:
    """What has come of one body, and how much of that counts."""

    def __init__(self, budget: BodyBudget) -> None:
        self.num_bytes = self.counted_bytes = 0
        self._budget = budget

    def add(self, num_bytes: int) -> None:
        """So much more has come. Raises OverloadedError as `BodyBudget.take` does."""
        more = max(self.num_bytes + num_bytes - FREE_BYTES, 0) - self.counted_bytes
        self._budget.take(more)
        self.num_bytes += num_bytes
        self.counted_bytes += more
