"""How likely a path is to suffice, for whom."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FIRST_CHANCES = {"exact": 0.3, "near": 0.1, "cascade": 0.5}
"""As long as nothing was seen: of the same question, and of one of the same meaning, to have an answer that will do;
and of a small model to be sure enough."""
FIRST_WEIGHT = 4.0
"""What that counts, in requests; for good, so that no chance ever becomes zero."""
FORGETTING = 0.995
"""What a request still counts with each one behind it. Looks are cheap beside what they save: no run of bad luck is to
end them."""
MAX_CONTEXTS = 1024
"""That are remembered; those asked longest ago are forgotten."""


@dataclass(slots=True)
class _Seen:
    sufficed: float = 0.0
    tried: float = 0.0


class Chances:
    """Shares of success by path and tenant, the latest requests counting most; nobody's are taken from others'."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()

    def of(self, kind: str, tenant: str) -> float:
        """The chance that this one suffices the next time."""
        first = FIRST_CHANCES.get(kind, 0.5)
        seen = self._seen.get((kind, tenant))
        if seen is None:
            return first
        return (first * FIRST_WEIGHT + seen.sufficed) / (FIRST_WEIGHT + seen.tried)

    def observe(self, kind: str, tenant: str, *, sufficed: bool) -> None:
        """It was tried."""
        seen = self._seen.setdefault((kind, tenant), _Seen())
        self._seen.move_to_end((kind, tenant))
        seen.sufficed = FORGETTING * seen.sufficed + sufficed
        seen.tried = FORGETTING * seen.tried + 1.0
        while len(self._seen) > MAX_CONTEXTS:
            self._seen.popitem(last=False)
