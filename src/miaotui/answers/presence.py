"""Which tenants have curated answers, so that the others' questions are not looked up among them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from miaotui.answers.entry import CURATED
from miaotui.answers.level import Level
from miaotui.answers.store import Filter
from miaotui.errors import StoreError

log = logging.getLogger(__name__)

LOOK_S = 10.0
"""So often a store is asked."""


class Presence:
    """Asks a store in the background, so that nobody waits for it; what it said last holds where it fails.

    now: seconds since 1970. failed: called when the store does not answer.
    """

    def __init__(self, level: Level, now: Callable[[], float], failed: Callable[[], None]) -> None:
        self._level = level
        self._now = now
        self._failed = failed
        self._has: dict[str, bool] = {}
        self._looked_s: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def may_have(self, tenant: str) -> bool:
        """Whether a tenant may have curated answers; True where it is not known yet."""
        is_due = abs(self._now() - self._looked_s.get(tenant, float("-inf"))) >= LOOK_S
        if is_due and tenant not in self._looking:
            task = self._looking[tenant] = asyncio.create_task(self._look(tenant))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._has.get(tenant, True)

    def forget(self, tenant: str) -> None:
        """It may have changed; what is being asked came too early."""
        for known in (self._has, self._looked_s, self._looking):
            known.pop(tenant, None)

    async def close(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self, tenant: str) -> None:
        has: bool | None = None
        try:
            found = await self._level.rows(Filter("answer", tenant, group=CURATED), now_s=self._now(), limit=1)
            has = bool(found)
        except StoreError:
            self._failed()
        except Exception:
            log.exception("whether there are curated answers could not be told; it is tried again")
        if self._looking.get(tenant) is not asyncio.current_task():
            return
        del self._looking[tenant]
        self._looked_s[tenant] = self._now()
        if has is not None:
            self._has[tenant] = has
