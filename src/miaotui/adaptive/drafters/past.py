"""Past answers: what the same tenant was told before, behind the same words.

Method: suffix trees over earlier outputs as in SuffixDecoding (Oliaro et al., arXiv:2411.04975), here suffix automata.
"""

from __future__ import annotations

import heapq
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
        self._shelves: dict[str, _Shelf] = {}
        self._nbytes = 0
        self._largest: list[tuple[int, str]] = []  # a heap of negative bytes and tenants; some hold no longer

    @property
    def nbytes(self) -> int:
        """What all of it takes; never more than `max_bytes` between calls."""
        return self._nbytes

    def learn(self, tenant: str, token_ids: list[int], num_prompt_tokens: int) -> None:
        """Keep an answer: what comes behind the prompt."""
        begin = max(num_prompt_tokens - CONTEXT, 0)
        text = token_ids[begin : num_prompt_tokens + MOST_TOKENS]
        known = self._shelves.get(tenant)
        shelf = self._shelves[tenant] = known or _Shelf()
        self._nbytes += 0 if known else shelf.nbytes
        left = self.max_bytes - (self._nbytes - shelf.nbytes)
        if shelf.young.nbytes > max(self.max_bytes // len(self._shelves), left) // 2:  # what idle ones leave is its own
            self._turn(shelf)
        if self._make_room(tenant, len(text)):
            before = shelf.nbytes
            shelf.young.begin_text()
            shelf.young.append(text)
            self._nbytes += shelf.nbytes - before
            self._make_room(tenant, 0)
        if shelf.is_empty:
            self._remove(tenant)
        else:
            self._remember_size(tenant)

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

    def _make_room(self, tenant: str, num_tokens: int) -> bool:
        """Let texts leave until so many more tokens fit on a shelf, those of whoever has most; whether they do."""
        shelf = self._shelves[tenant]
        self._remember_size(tenant)
        while self._nbytes + shelf.young.most_bytes(num_tokens) - shelf.young.nbytes > self.max_bytes:
            largest = self._take_largest()
            self._turn(self._shelves[largest])
            if not self._shelves[largest].is_empty:
                self._remember_size(largest)
            elif largest == tenant:
                return False
            else:
                self._remove(largest)
        return True

    def _turn(self, shelf: _Shelf) -> None:
        before = shelf.nbytes
        shelf.turn()
        self._nbytes += shelf.nbytes - before

    def _remove(self, tenant: str) -> None:
        self._nbytes -= self._shelves.pop(tenant).nbytes

    def _remember_size(self, tenant: str) -> None:
        """For `_take_largest`, whenever a shelf's size may have changed."""
        if len(self._largest) > 4 * len(self._shelves) + 16:
            self._largest = [(-shelf.nbytes, name) for name, shelf in self._shelves.items() if name != tenant]
            heapq.heapify(self._largest)
        heapq.heappush(self._largest, (-self._shelves[tenant].nbytes, tenant))

    def _take_largest(self) -> str:
        """Who has most; its size is to be remembered again where it stays. There is one whose size is remembered."""
        while True:
            size, tenant = heapq.heappop(self._largest)
            if tenant in self._shelves and self._shelves[tenant].nbytes == -size:
                return tenant


def _length(found: tuple[int, list[int]]) -> int:
    return found[0]
