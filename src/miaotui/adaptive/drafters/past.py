"""Past answers: what the same tenant was told before, behind the same words.

Method: suffix trees over earlier outputs as in SuffixDecoding (Oliaro et al., arXiv:2411.04975), here suffix automata.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from miaotui import _native

CONTEXT = 64
"""Tokens of the prompt that are kept with an answer, so that its beginning is found behind the same question."""
MOST_TOKENS = 4096
"""Of a longer answer the rest is not kept: learning that much takes about a millisecond."""
TAIL = 128
"""Tokens that are looked for at most."""


@dataclass(slots=True)
class _Shelf:
    """One tenant's texts in two generations. When the younger one is full, the older one leaves as a whole.

    What was of use is in an answer of today, and so among the younger: those leave that nothing was drafted from.
    """

    young: _native.SuffixAutomaton = field(default_factory=_native.SuffixAutomaton)
    old: _native.SuffixAutomaton | None = None

    @property
    def nbytes(self) -> int:
        return self.young.nbytes + (0 if self.old is None else self.old.nbytes)

    @property
    def is_empty(self) -> bool:
        return self.old is None and self.young.num_tokens == 0

    def turn(self) -> None:
        """The older texts leave."""
        self.old, self.young = (self.young if self.young.num_tokens else None), _native.SuffixAutomaton()


class PastAnswers:
    """Answers of all tenants within one limit of bytes; each finds its own alone."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._shelves: dict[str, _Shelf] = {}  # who learned last is last

    @property
    def nbytes(self) -> int:
        """What all of it takes; never more than `max_bytes` between calls."""
        return sum(shelf.nbytes for shelf in self._shelves.values())

    def learn(self, tenant: str, token_ids: list[int], num_prompt_tokens: int) -> None:
        """Keep an answer: what comes behind the prompt."""
        begin = max(num_prompt_tokens - CONTEXT, 0)
        text = token_ids[begin : num_prompt_tokens + MOST_TOKENS]
        self._shelves[tenant] = shelf = self._shelves.pop(tenant, None) or _Shelf()
        left = self.max_bytes - (self.nbytes - shelf.nbytes)
        if shelf.young.nbytes > max(self.max_bytes // len(self._shelves), left) // 2:  # what idle ones leave is its own
            shelf.turn()
        if self._make_room(shelf, len(text)):
            shelf.young.begin_text()
            shelf.young.append(text)
            self._make_room(shelf, 0)
        if shelf.is_empty:
            del self._shelves[tenant]

    def find(self, tenant: str, token_ids: list[int], count: int) -> tuple[int, list[int]]:
        """How many tokens at the end of a text agreed with those of a past one, and up to so many that followed."""
        shelf = self._shelves.get(tenant)
        if shelf is None:
            return 0, []
        tail = token_ids[-TAIL:]
        found = shelf.young.find(tail, count)
        if shelf.old is not None:
            found = max(found, shelf.old.find(tail, count), key=_length)  # of equal ones the younger
        return found

    def _make_room(self, shelf: _Shelf, num_tokens: int) -> bool:
        """Let texts leave until so many more tokens fit on a shelf, those of whoever has most; whether they do."""
        while self.nbytes + shelf.young.most_bytes(num_tokens) - shelf.young.nbytes > self.max_bytes:
            tenant = max(self._shelves, key=lambda tenant: self._shelves[tenant].nbytes)
            largest = self._shelves[tenant]
            largest.turn()
            if largest.is_empty:
                if largest is shelf:
                    return False
                del self._shelves[tenant]
        return True


def _length(found: tuple[int, list[int]]) -> int:
    return found[0]
