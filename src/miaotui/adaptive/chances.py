"""How likely a path is to suffice, for whom."""

from __future__ import annotations

from collections import OrderedDict

from miaotui.adaptive.adaptive_drafter import Share

FIRST_CHANCES = {"exact": 0.3, "near": 0.1}
"""As long as nothing was seen: of the same question, and of one of the same meaning, to have an answer that will do."""
FIRST_WEIGHT = 2.0
"""What that counts, in requests; for good, so that no chance ever becomes zero."""
MAX_CONTEXTS = 1024
"""That are remembered; those asked longest ago are forgotten."""


class Chances:
    """Shares of success by path and tenant, the latest requests counting most; nobody's are taken from others'."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], Share] = OrderedDict()

    def of(self, kind: str, tenant: str) -> float:
        """The chance that this one suffices the next time."""
        first = FIRST_CHANCES.get(kind, 0.5)
        share = self._seen.get((kind, tenant))
        if share is None:
            return first
        return (first * FIRST_WEIGHT + share.came) / (FIRST_WEIGHT + share.judged)

    def observe(self, kind: str, tenant: str, *, sufficed: bool) -> None:
        """It was tried."""
        share = self._seen.setdefault((kind, tenant), Share(0.0, 0.0))
        self._seen.move_to_end((kind, tenant))
        share.observe(1, int(sufficed))
        while len(self._seen) > MAX_CONTEXTS:
            self._seen.popitem(last=False)
