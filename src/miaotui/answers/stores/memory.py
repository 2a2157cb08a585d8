"""Rows in this process's memory: the level in front of all others, and a store for those who keep nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import KINDS, Count, Filter, Name, Order, is_too_large, limits_of
from miaotui.answers.stores.matching import Matcher, check_page, is_live, place

ROWS_SEARCHED_AT_ONCE = 256
ROWS_LOOKED_AT_ONCE = 8192
_FIRST_TO_GO: tuple[Kind, ...] = ("decision", "answer", "observation", "feedback", "case")
_ORDER = _FIRST_TO_GO + tuple(kind for kind in KINDS if kind not in _FIRST_TO_GO)


@dataclass(slots=True)
class _Kept:
    row: Row
    used_s: float
    num_bytes: int


class MemoryStore:
    """A `Store` whose rows end with the process. Never fails; not for use from several threads.

    max_bytes: of all rows together; `limits_of` holds as well. Decisions go first, then answers, then the others; of
    each kind the least recently used. A row that is larger than its limit by itself is not kept. kinds: rows of others
    are not kept: in front of a store that has them they would be in the way.
    What was put or touched last was used last, whatever time was given: rows that come up from a slower store are old.
    """

    name = "memory"

    def __init__(self, max_bytes: int | None = None, kinds: Collection[Kind] = KINDS) -> None:
        self._max_bytes = max_bytes
        self._kinds = frozenset(kinds)
        self._rows: dict[Kind, OrderedDict[Name, _Kept]] = {kind: OrderedDict() for kind in KINDS}
        self._sizes = dict.fromkeys(KINDS, 0)

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget everything."""
        for rows in self._rows.values():
            rows.clear()
        self._sizes = dict.fromkeys(KINDS, 0)

    def peek(self, name: Name, now_s: float) -> Row | None:
        """What `get` gives, for callers that cannot wait."""
        kept = self._rows[name[0]].get(name)
        return kept.row if kept is not None and is_live(kept.row, now_s) else None

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""
        return self.peek(name, now_s)

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows."""
        wanted = [_Kept(row, row.created_s, row.num_bytes) for row in rows if row.kind in self._kinds]
        for kept in wanted:
            name = _name(kept.row)
            self._remove(name)
            if not is_too_large(kept.row, self._max_bytes):
                self._rows[kept.row.kind][name] = kept
                self._sizes[kept.row.kind] += kept.num_bytes
        self._evict()

    async def delete(self, which: Filter) -> int:
        """Remove rows; how many there were."""
        doomed = await self._meant(which)
        same = [name for row in doomed if (kept := self._rows[row.kind].get(name := _name(row))) and kept.row is row]
        for name in same:  # those that were replaced while others were looked at stay
            self._remove(name)
        return len(same)

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
            kept = self._rows[name[0]].get(name)
            if kept is not None and used_s >= kept.used_s:
                kept.used_s = used_s
                self._rows[name[0]].move_to_end(name)

    async def count(self, which: Filter) -> Count:
        """How many rows there are."""
        sizes = [row.num_bytes for row in await self._meant(which)]
        return Count(len(sizes), sum(sizes))

    async def _meant(self, which: Filter) -> list[Row]:
        is_meant, rows = Matcher(which), self._rows[which.kind]
        if which.tenant is not None and which.key is not None:
            candidates = [kept] if (kept := rows.get((which.kind, which.tenant, which.key))) else []
        else:
            candidates = list(rows.values())
        at_once = ROWS_LOOKED_AT_ONCE if which.text is None else ROWS_SEARCHED_AT_ONCE
        found = []
        for number, kept in enumerate(candidates, 1):
            if number % at_once == 0:
                await asyncio.sleep(0)  # others must not wait for all of it, least of all where words are taken apart
            if is_meant(kept.row):
                found.append(kept.row)
        return found

    def _remove(self, name: Name) -> None:
        kept = self._rows[name[0]].pop(name, None)
        if kept is not None:
            self._sizes[name[0]] -= kept.num_bytes

    def _evict(self) -> None:
        if self._max_bytes is None:
            return
        for kind, limit in limits_of(self._max_bytes).items():
            while self._sizes[kind] > limit:
                self._remove(next(iter(self._rows[kind])))
        while sum(self._sizes.values()) > self._max_bytes:
            self._remove(next(iter(next(self._rows[kind] for kind in _ORDER if self._rows[kind]))))


def _name(row: Row) -> Name:
    return row.kind, row.tenant, row.key
