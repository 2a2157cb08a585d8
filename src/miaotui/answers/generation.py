"""Whether another process has taken answers out of a store, or replaced them: then memory forgets what it has."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from miaotui.answers.level import Level
from miaotui.answers.row import Row, payload_of
from miaotui.errors import StoreError

LOOK_S = 1.0
"""So often the store is asked, at most: an answer that another process took out is served no longer than this."""
KEY = hashlib.sha256(b"miaotui generation").digest()


class Generations:
    """The generation of each tenant's answers in the lasting store: a random mark, another when others must notice.

    level: the lasting store. forget: drops what this process holds of a tenant's answers. seal: makes a row genuine.
    now: seconds since 1970.
    """

    def __init__(
        self,
        level: Level,
        forget: Callable[[str], Awaitable[None]],
        seal: Callable[[Row], Row],
        now: Callable[[], float],
    ) -> None:
        self._level = level
        self._forget = forget
        self._seal = seal
        self._now = now
        self._known: dict[str, bytes] = {}
        self._looked_s: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def known(self, tenant: str) -> bytes:
        """The mark that was seen last."""
        return self._known.get(tenant, b"")

    async def look(self, tenant: str) -> None:
        """Forget the tenant's answers if the mark is another one. Takes as long as a read may; a failure keeps them."""
        if not self._is_due(tenant):
            return
        async with self._locks.setdefault(tenant, asyncio.Lock()):  # whoever asks meanwhile must not have old answers
            if not self._is_due(tenant):
                return
            now_s = self._now()
            with suppress(StoreError):
                row = await self._level.get(("generation", tenant, KEY), now_s)
                mark = b"" if row is None else row.payload
                if mark != self.known(tenant):
                    await self._forget(tenant)
                    self._known[tenant] = mark
            self._looked_s[tenant] = now_s

    async def change(self, tenants: Iterable[str]) -> None:
        """Have every process forget these tenants' answers. Raises StoreError.

        Random marks and no numbers: of two processes that change one at the same time, neither can hide the other's.
        This process notices its own change as well: it cannot tell it from another's that it replaced.
        """
        marks = {tenant: payload_of({"mark": secrets.token_hex(16)}) for tenant in tenants}
        rows = [self._seal(Row("generation", tenant, KEY, mark, self._now())) for tenant, mark in marks.items()]
        if rows:
            await self._level.put(rows)

    def _is_due(self, tenant: str) -> bool:
        return abs(self._now() - self._looked_s.get(tenant, float("-inf"))) >= LOOK_S  # clocks are set back, too
