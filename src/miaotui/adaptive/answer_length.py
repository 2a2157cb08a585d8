"""How many tokens an answer will have: as many as the tenant's others of late, where nothing better is known."""

from __future__ import annotations

from collections import OrderedDict, deque
from statistics import median_low

KEPT, MAX_CONTEXTS = 32, 512
"""Lengths that count in a context, and contexts that are remembered."""
FIRST_TOKENS = 128
"""What is expected where nothing was seen, if so many are allowed."""

Context = tuple[object, ...]


class AnswerLengths:
    """Medians of what was seen: by tenant and (in powers of two) how much was allowed, else by tenant alone.

    Nothing is taken from other tenants, whose lengths are their own business.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[Context, deque[int]] = OrderedDict()

    def expect(self, tenant: str, max_tokens: int) -> int:
        """Tokens of the next answer; no more than so many are allowed."""
        for context in _contexts(tenant, max_tokens):
            if seen := self._seen.get(context):
                return min(int(median_low(seen)), max_tokens)
        return min(FIRST_TOKENS, max_tokens)

    def observe(self, tenant: str, max_tokens: int, num_tokens: int) -> None:
        """An answer, allowed so many tokens, had so many."""
        for context in _contexts(tenant, max_tokens):
            seen = self._seen.setdefault(context, deque(maxlen=KEPT))
            self._seen.move_to_end(context)
            seen.append(num_tokens)
        while len(self._seen) > MAX_CONTEXTS:
            self._seen.popitem(last=False)


def _contexts(tenant: str, max_tokens: int) -> tuple[Context, ...]:
    return (tenant, max_tokens.bit_length()), (tenant,)
