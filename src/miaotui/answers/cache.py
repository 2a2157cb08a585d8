"""`AnswerCache`: answers that were given before, found again by the question's digest."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from miaotui.answers.control import CacheControl
from miaotui.answers.decision import Decision, Path, decision_key, decision_of
from miaotui.answers.entry import CURATED, Entry, curated_key, entry_of
from miaotui.answers.leases import Leases
from miaotui.answers.level import Level
from miaotui.answers.question import Question, why_not_kept
from miaotui.answers.row import Row
from miaotui.answers.store import Claims, Filter, Name, Store
from miaotui.answers.writer import Writer
from miaotui.errors import StoreError

POLL_S = 0.03
"""How often a process looks for an answer that another one computes."""
LOOK_FOR_CURATED_S = 10.0
"""So often the last store is asked whether a tenant has curated answers."""


@dataclass(frozen=True, slots=True)
class Found:
    """A kept answer that will do, and which path led to it."""

    entry: Entry
    path: Path
    why: str
    matched: str | None = None
    similarity: float | None = None
    guards: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Missed:
    """No kept answer will do. keep: whether the one that is computed now is to be kept."""

    why: str
    keep: bool


class AnswerCache:
    """Looks for answers in memory first and then in each store, and keeps new ones in all of them.

    stores: the fastest first. secret: 32 bytes; rows that were not sealed with it count as not there. ttl_s: how long
    an answer holds. A store that is down is passed over: nothing here raises StoreError, or waits for one long.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        secret: bytes,
        *,
        ttl_s: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.levels = [Level(store) for store in stores]
        self.counts: Counter[str] = Counter()
        self.saved_s = 0.0
        self._secret = secret
        self._ttl_s = ttl_s
        self._now = now
        self._curated_seen: dict[str, tuple[float, bool]] = {}

    async def open(self) -> None:
        """Connect to the stores; those that are down are tried again later."""
        for level in self.levels:
            await level.open()
        self._writer = Writer(self.levels)
        shared = next((level.store for level in self.levels if isinstance(level.store, Claims)), None)
        self._leases = None if shared is None else Leases(shared)

    async def close(self) -> None:
        """Write down what has not been yet, and let go of the stores."""
        await self._writer.close()
        if self._leases is not None:
            await self._leases.close()
        for level in self.levels:
            await level.close()

    async def flush(self) -> None:
        """Wait until what was kept so far is in the stores that work."""
        await self._writer.flush()

    @property
    def now_s(self) -> float:
        """Seconds since 1970."""
        return self._now()

    async def look_up(self, question: Question, control: CacheControl) -> Found | Missed:
        """An answer to the question, or why there is none."""
        reason = why_not_kept(question.params, question.tools)
        if control.mode != "default":
            self.counts["bypassed"] += 1
            return Missed(f"the request says {control.mode}", keep=control.mode == "refresh" and reason is None)
        found = await self._curated(question)
        if found is None and reason is None:
            found = await self._find(("answer", question.tenant, question.key), question, control)
        if found is None:
            self.counts["missed" if reason is None else "bypassed"] += 1
            return Missed(reason or "nobody has asked this before", keep=reason is None)
        self.counts[found.path] += 1
        self.saved_s += found.entry.cost_s
        self._writer.used(("answer", found.entry.tenant, found.entry.key), self._now())
        return found

    async def lead(self, question: Question, control: CacheControl) -> Found | None:
        """Returns when this process is to compute an answer, or with the one that another process has just kept.

        To be followed by one `led`.
        """
        name: Name = ("answer", question.tenant, question.key)
        while self._leases is not None and not await self._leases.take(question.key):
            await asyncio.sleep(POLL_S)
            found = await self._find(name, question, control)
            if found is not None:
                self.counts[found.path] += 1
                self.saved_s += found.entry.cost_s
                return found
        return None

    def led(self, question: Question) -> None:
        """The answer was kept, or will not come: when the stores have it, others may look for it."""
        if self._leases is not None:
            self._leases.give_back(question.key, after=self.flush)

    async def keep(self, entry: Entry) -> bool:
        """Keep an answer, unless it was rejected; it is found at once, and in the stores soon."""
        if await self._get(("case", entry.tenant, case_key(entry.key, entry.answer))) is not None:
            self.counts["refused"] += 1
            return False
        if self._ttl_s is not None and entry.expires_s is None:
            entry = replace(entry, expires_s=entry.created_s + self._ttl_s)
        await self.put(entry.row())
        self.counts["kept"] += 1
        return True

    async def put(self, row: Row) -> None:
        """Seal a row and have it kept."""
        row = row.sealed(self._secret)
        if self.levels:
            await self._quietly(0, row)
        self._writer.add(row)

    async def put_now(self, rows: Sequence[Row]) -> None:
        """Seal rows and keep them in every store before this returns. Raises StoreError where one is down."""
        sealed = [row.sealed(self._secret) for row in rows]
        for level in self.levels:
            await level.put(sealed)
        self._curated_seen.clear()

    def note(self, decision: Decision) -> None:
        """Keep a decision, soon."""
        self._writer.add(decision.row().sealed(self._secret))

    async def why(self, request_id: str, tenant: str) -> Decision | None:
        """What became of a request."""
        await self.flush()
        row = await self._get(("decision", tenant, decision_key(request_id)))
        return None if row is None else decision_of(row[0])

    async def entry(self, key: bytes, tenant: str) -> Entry | None:
        """A kept answer."""
        kept = await self._get_entry(("answer", tenant, key))
        return None if kept is None else kept[0]

    def counters(self) -> dict[str, Any]:
        """What was done since the start. Hits by path; bypassed: requests that do not want, or bear, a kept answer."""
        counts = self.counts
        return {
            "hits": {path: counts[path] for path in ("memory", "store", "curated", "near")},
            "misses": counts["missed"],
            "near_refused": counts["near_refused"],
            "bypassed": counts["bypassed"],
            "kept": counts["kept"],
            "refused": counts["refused"],
            "tampered": counts["tampered"],
            "errors": counts["errors"],
            "dropped": self._writer.num_dropped,
            "saved_s": round(self.saved_s, 3),
            "stores": [
                {"name": level.name, "works": level.works, "failures": level.num_errors} for level in self.levels
            ],
        }

    async def stats(self, tenant: str | None) -> dict[str, Any]:
        """The same, with what the last store holds of a tenant's; None where it does not say."""
        try:
            held = await self.levels[-1].count(Filter("answer", tenant))
        except StoreError:
            return self.counters() | {"rows": None, "bytes": None}
        return self.counters() | {"rows": held.num_rows, "bytes": held.num_bytes}

    async def rows(self, which: Filter, *, limit: int = 100, behind: Row | None = None) -> list[Row]:
        """Genuine rows of the last store, newest first. Raises StoreError where that is down."""
        found = await self.levels[-1].rows(which, now_s=self._now(), limit=limit, behind=behind)
        return [row for row in found if row.is_genuine(self._secret)]

    async def delete(self, which: Filter) -> int:
        """Remove rows everywhere; how many the last store had. Raises StoreError where one is down."""
        await self.flush()
        return [await level.delete(which) for level in self.levels][-1]

    async def _curated(self, question: Question) -> Found | None:
        """Somebody's own answer, where the question stands for itself."""
        tenant, params = question.tenant, question.params
        if not question.is_first or params.n > 1 or params.logprobs is not None or params.prompt_logprobs is not None:
            return None
        if not await self._has_curated(tenant):
            return None
        kept = await self._get_entry(("answer", tenant, curated_key(tenant, question.text or "")))
        return None if kept is None else Found(kept[0], "curated", "somebody wrote an answer to this question")

    async def _has_curated(self, tenant: str) -> bool:
        """Whether a tenant has curated answers; asked of the last store now and then."""
        seen_s, has = self._curated_seen.get(tenant, (float("-inf"), False))
        now_s = self._now()
        if now_s - seen_s >= LOOK_FOR_CURATED_S:
            try:
                has = (await self.levels[-1].count(Filter("answer", tenant, group=CURATED))).num_rows > 0
            except StoreError:
                self.counts["errors"] += 1
            self._curated_seen[tenant] = now_s, has
        return has

    async def _find(self, name: Name, question: Question, control: CacheControl) -> Found | None:
        """The kept answer of that name, if it is young and short enough."""
        kept = await self._get_entry(name)
        if kept is None:
            return None
        (entry, level), max_tokens = kept, question.params.max_tokens
        if control.max_age_s is not None and self._now() - entry.created_s > control.max_age_s:
            return None
        if max_tokens is not None and entry.output_tokens > max_tokens:
            return None
        return Found(entry, "memory" if level == 0 else "store", "the same was asked before")

    async def _get_entry(self, name: Name) -> tuple[Entry, int] | None:
        """The same of an answer; one that another version wrote in another form counts as not there."""
        row = await self._get(name)
        try:
            return None if row is None else (entry_of(row[0]), row[1])
        except ValueError:
            return None

    async def _get(self, name: Name) -> tuple[Row, int] | None:
        """A genuine row, and the level it came from; the levels before that have it from now on."""
        now_s = self._now()
        for number, level in enumerate(self.levels):
            try:
                row = await level.get(name, now_s)
            except StoreError:
                self.counts["errors"] += 1
                continue
            if row is None:
                continue
            if (row.kind, row.tenant, row.key) != name or not row.is_genuine(self._secret):
                self.counts["tampered"] += 1
                continue
            for before in range(number):
                await self._quietly(before, row)
            return row, number
        return None

    async def _quietly(self, level: int, row: Row) -> None:
        try:
            await self.levels[level].put([row])
        except StoreError:
            self.counts["errors"] += 1


@asynccontextmanager
async def opened(cache: AnswerCache | None) -> AsyncIterator[None]:
    """The cache, if there is one, open meanwhile."""
    if cache is not None:
        await cache.open()
    try:
        yield
    finally:
        if cache is not None:
            await cache.close()


def case_key(key: bytes, answer: str) -> bytes:
    """Under which it is kept that this answer to that question is wrong."""
    return hashlib.sha256(b"case\0" + key + answer.encode("utf-8", "surrogatepass")).digest()
