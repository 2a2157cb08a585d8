"""Whose turn it is: urgent requests first, then tenants in turn by what they have been served, then by arrival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as Row

from miaotui.engine.sequence import Sequence


class WaitingLine:
    """Sequences that wait for a place, and how many tokens each tenant has been served.

    A tenant who comes back after a pause starts level with the one served least of those who are there, so that a
    pause saves nothing up (virtual token counters: Sheng et al., "Fairness in Serving Large Language Models", 2024).
    """

    def __init__(self) -> None:
        self._waiting: list[Sequence] = []
        self._served: dict[str, int] = {}
        self._present: Counter[str] = Counter()  # sequences of each tenant that wait or run

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def __contains__(self, sequence: object) -> bool:
        return sequence in self._waiting

    def add(self, sequence: Sequence) -> None:
        """A new one, behind those that came before it."""
        tenant = sequence.request.tenant
        if not self._present[tenant]:
            least = min((self._served[t] for t, count in self._present.items() if count and t != tenant), default=0)
            self._served[tenant] = max(self._served.get(tenant, 0), least)
        self._present[tenant] += 1
        self._waiting.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """One that ran and had to give its pages up; it goes before its tenant's others."""
        self._waiting.insert(0, sequence)

    def first(self) -> Sequence | None:
        """Whose turn it is; None where nobody waits who could be read now."""
        if not self._waiting:
            return None
        return min((s for s in self._waiting if s.is_ready), key=self.turn, default=None)

    def who_yields(self, sequence: Sequence, running: Row[Sequence]) -> Sequence | None:
        """Which of those that run should give its place up for one that waits; None where all go on.

        The least urgent of the tenant served most, the latest of several; but only for a strictly earlier turn: none of
        the same tenant and priority, none of a tenant who would have no place left, and among equally urgent ones none
        of a tenant with no more places than the one who waits.
        """
        places = Counter(s.request.tenant for s in running)
        tenant, turn = sequence.request.tenant, self.turn(sequence)

        def may_yield(one: Sequence) -> bool:
            if not one.has_had_its_turn or self.turn(one) <= turn:
                return False
            if one.request.tenant == tenant:
                return one.request.priority > sequence.request.priority
            if one.request.priority > sequence.request.priority:
                return places[one.request.tenant] > 1
            return places[one.request.tenant] > max(places[tenant], 1)

        return max((s for s in reversed(running) if may_yield(s)), key=self.turn, default=None)

    def take(self, sequence: Sequence) -> None:
        """It has a place now."""
        self._waiting.remove(sequence)

    def serve(self, sequence: Sequence, num_tokens: int) -> None:
        """Count what the model reads for a tenant."""
        self._served[sequence.request.tenant] += num_tokens

    def leave(self, sequence: Sequence) -> None:
        """It has ended, wherever it was."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        tenant = sequence.request.tenant
        self._present[tenant] -= 1
        if not self._present[tenant]:
            del self._present[tenant]
            if not self._present:
                self._served.clear()

    def turn(self, sequence: Sequence) -> tuple[int, int]:
        """Whoever has less here goes first: by priority, then by what its tenant has been served."""
        return sequence.request.priority, self._served[sequence.request.tenant]
