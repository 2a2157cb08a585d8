"""Rows in this process's memory: the level in front of all others, and a store for those who keep nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter, Name, Order
from miaotui.answers.stores.matching import Matcher, check_page, is_live, place

ROWS_SEARCHED_AT_ONCE = 256


@dataclass(slots=True)
class _Kept:
    row: Row
    used_s: float
    num_bytes: int


class MemoryStore:
    """A `Store` whose rows end with the process. Never fails; not for use from several threads.

    max_bytes: of answers; the least recently used go first, and one that is larger by itself is not kept.
    What was put or touched last was used last, whatever time was given: rows that come up from a slower store are old.
    """

    name = "memory"

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Name, _Kept] = OrderedDict()
        self._others: OrderedDict[Name, _Kept] = OrderedDict()
        self._answer_bytes = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget everything."""
        self._answers.clear()
        self._others.clear()
        self._answer_bytes = 0

    def peek(self, name: Name, now_s: float) -> Row | None:
        """What `get` gives, for callers that cannot wait."""
        kept = self._of(name).get(name)
        return kept.row if kept is not None and is_live(kept.row, now_s) else None

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""
        return self.peek(name, now_s)

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        wanted = [_Kept(row, row.created_s, row.num_bytes) for row in rows]
        for kept in wanted:
            row, name = kept.row, (kept.row.kind, kept.row.tenant, kept.row.key)
            self._remove(name)
            if row.kind != "answer":
                self._others[name] = kept
            elif self._max_bytes is None or kept.num_bytes <= self._max_bytes:
                self._answers[name] = kept
                self._answer_bytes += kept.num_bytes
        while self._max_bytes is not None and self._answer_bytes > self._max_bytes:
            self._remove(next(iter(self._answers)))

    async def delete(self, which: Filter) -> int:
        """Remove rows; how many there were."""
        doomed = [(row.kind, row.tenant, row.key) for row in await self._meant(which)]
        for name in doomed:
            self._remove(name)
        return len(doomed)

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """Rows in order."""
        check_page(order, limit, behind)
        found = [row for row in await self._meant(which) if is_live(row, now_s)]
        if order != "least used":
            newest = order == "newest"
            found.sort(key=place, reverse=newest)
            if behind is not None:
                edge = place(behind)
                found = [row for row in found if (place(row) < edge if newest else place(row) > edge)]
        return found[:limit]

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """Note uses, in the order of their times."""
        for name, used_s in sorted(uses.items(), key=lambda use: use[1]):
            kept = self._of(name).get(name)
            if kept is not None and used_s >= kept.used_s:
                kept.used_s = used_s
                self._of(name).move_to_end(name)

    async def count(self, which: Filter) -> Count:
        """How many rows there are."""
        sizes = [row.num_bytes for row in await self._meant(which)]
        return Count(len(sizes), sum(sizes))

    def _of(self, name: Name) -> OrderedDict[Name, _Kept]:
        return self._answers if name[0] == "answer" else self._others

    async def _meant(self, which: Filter) -> list[Row]:
        is_meant = Matcher(which)
        if which.tenant is not None and which.key is not None:
            name = (which.kind, which.tenant, which.key)
            candidates = [kept] if (kept := self._of(name).get(name)) else []
        else:
            candidates = list((self._answers if which.kind == "answer" else self._others).values())
        found = []
        for number, kept in enumerate(candidates, 1):
            if which.text is not None and number % ROWS_SEARCHED_AT_ONCE == 0:
                await asyncio.sleep(0)  # words are taken apart; others must not wait for all of it
            if is_meant(kept.row):
                found.append(kept.row)
        return found

    def _remove(self, name: Name) -> None:
        kept = self._of(name).pop(name, None)
        if kept is not None and name[0] == "answer":
            self._answer_bytes -= kept.num_bytes
