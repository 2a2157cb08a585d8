"""A store that is a dictionary, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter, Name, Order
from miaotui.errors import StoreError


class DictStore:
    def __init__(self, name: str = "dict") -> None:
        self.name = name
        self.kept: dict[Name, Row] = {}
        self.used: dict[Name, float] = {}
        self.is_down = False
        self.num_gets = 0

    def _check(self) -> None:
        if self.is_down:
            raise StoreError("it was told to fail")

    async def open(self) -> None:
        self._check()

    async def close(self) -> None:
        pass

    async def get(self, name: Name, now_s: float) -> Row | None:
        self._check()
        self.num_gets += 1
        row = self.kept.get(name)
        return None if row is None or (row.expires_s is not None and row.expires_s <= now_s) else row

    async def put(self, rows: Sequence[Row]) -> None:
        self._check()
        for row in rows:
            self.kept[row.kind, row.tenant, row.key] = row

    async def delete(self, which: Filter) -> int:
        found = self._matching(which)
        for row in found:
            del self.kept[row.kind, row.tenant, row.key]
        return len(found)

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        found = sorted(self._matching(which), key=lambda row: (-row.created_s, row.key))
        if behind is not None:
            found = [row for row in found if (-row.created_s, row.key) > (-behind.created_s, behind.key)]
        return found[:limit]

    async def touch(self, uses: Mapping[Name, float]) -> None:
        self._check()
        self.used.update(uses)

    async def count(self, which: Filter) -> Count:
        found = self._matching(which)
        return Count(len(found), sum(row.num_bytes for row in found))

    def _matching(self, which: Filter) -> list[Row]:
        self._check()
        return [
            row
            for row in self.kept.values()
            if row.kind == which.kind
            and which.tenant in (None, row.tenant)
            and which.key in (None, row.key)
            and which.group in (None, row.group)
            and which.model in (None, row.model)
            and (which.tag is None or which.tag in row.tags)
            and (which.expired_s is None or (row.expires_s is not None and row.expires_s <= which.expired_s))
            and (which.text is None or all(word in row.text.casefold() for word in which.text.casefold().split()))
        ]
