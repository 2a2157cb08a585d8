"""`AnswerCache`: answers that were given before, found again by the question's digest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from miaotui.answers.cases import case_key, pair_key
from miaotui.answers.control import CacheControl
from miaotui.answers.decision import Decision, Path, decision_key, decision_of
from miaotui.answers.entry import Entry, curated_key, entry_of
from miaotui.answers.generation import Generations
from miaotui.answers.leases import LEASE_S, Leases
from miaotui.answers.level import Level
from miaotui.answers.presence import Presence
from miaotui.answers.question import Question, why_not_kept
from miaotui.answers.row import Row
from miaotui.answers.store import Claims, Filter, Name, Store
from miaotui.answers.writer import Writer
from miaotui.errors import MiaotuiError, StoreError

if TYPE_CHECKING:
    from miaotui.answers.nearby import Embed, Nearby

log = logging.getLogger(__name__)

POLL_S = 0.03
"""How often a process looks for an answer that another one computes."""
WAIT_S = LEASE_S
"""Longer than this, no process waits for another one: it computes the answer as well."""
MAX_COMPARING = 64
"""More answers than this are not compared with doubtful ones at a time: the encoder does not keep up."""
PAGE = 256
"""Rows that are fetched at once, of all."""


@dataclass(frozen=True, slots=True)
class Found:
    """A kept answer that will do, and which path led to it."""

    entry: Entry
    path: Path
    why: str
    matched: str | None = None
    similarity: float | None = None
    guards: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Missed:
    """No kept answer will do. keep: whether the one that is computed now is to be kept.

    vector: the question's. candidates: near questions that were looked at; doubtful: the one of them that passed all
    guards, of which it is not known yet whether its answer is right.
    """

    why: str
    keep: bool
    vector: bytes = b""
    candidates: tuple[Mapping[str, Any], ...] = ()
    doubtful: Mapping[str, Any] | None = None


class AnswerCache:
    """Looks for answers in memory first and then in each store, and keeps new ones in all of them.

    stores: the fastest first; of several, the first is this process's own, and the last is asked every second whether
    other processes have taken answers out. secret: 32 bytes; rows that were not sealed with it count as not there.
    ttl_s: how long an answer holds. A store that is down is passed over: nothing here raises StoreError, or waits for
    one long.
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
        self._nearby: Nearby | None = None
        self._comparing: set[asyncio.Task[None]] = set()
        self._presence = Presence(self.levels[-1], now, self._count_error)
        self._generations: Generations | None = None
        if len(stores) > 1:
            self._generations = Generations(self.levels[-1], self._forget, lambda row: row.sealed(secret), now)
        self._shared_from = next((n for n, store in enumerate(stores) if isinstance(store, Claims)), None)

    def use_near(self, delta: float, embedding_model: str, embed: Embed, model: str | None = None) -> None:
        """Give answers to questions of the same meaning, too. To be called before `open`.

        delta: the probability of a wrong answer that one hit may have. embed: makes vectors with that model. model:
        what computes answers here; those that another one computed are not looked at.
        """
        from miaotui.answers.near.near import NearHits  # word lists and guards: an eighth of a server's imports
        from miaotui.answers.near.prior import prior_of
        from miaotui.answers.nearby import Nearby

        hits = NearHits(self._read_genuine, prior_of(embedding_model), delta=delta)
        self._nearby = Nearby(hits, embed, self.put, lambda row: row.is_genuine(self._secret), model)

    async def open(self) -> None:
        """Connect to the stores; those that are down are tried again later."""
        for level in self.levels:
            await level.open()
        self._writer = Writer(self.levels, self._now)
        shared = None if self._shared_from is None else self.levels[self._shared_from].store
        self._leases = Leases(shared) if isinstance(shared, Claims) else None
        if self._nearby is not None:
            self._nearby.watch(self.levels[-1], self._now)

    async def close(self) -> None:
        """Write down what has not been yet, and let go of the stores."""
        for task in self._comparing:
            task.cancel()
        await asyncio.gather(*self._comparing, return_exceptions=True)
        await self._presence.close()
        if self._nearby is not None:
            await self._nearby.close()
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
        missed = Missed(reason or "nobody has asked this before", keep=reason is None)
        if found is None and reason is None:
            found, missed = await self._find_near(question, control)
        if found is None:
            self.counts["missed" if reason is None else "bypassed"] += 1
            return missed
        self._count(found)
        self._writer.used(("answer", found.entry.tenant, found.entry.key), self._now())
        return found

    async def lead(self, question: Question, control: CacheControl) -> Found | None:
        """Returns when this process is to compute an answer, or with the one that another process has just kept.

        To be followed by one `led`. Another process is waited for while it computes, but no longer than WAIT_S.
        """
        began_s = self._now()
        give_up_s, has_waited = asyncio.get_running_loop().time() + WAIT_S, False
        while self._leases is not None and not await self._leases.take(question.work):
            if asyncio.get_running_loop().time() >= give_up_s:
                return None
            has_waited = True
            await asyncio.sleep(POLL_S)
            found = await self._kept_since(began_s, question, control)
            if found is not None:
                return found
        found = await self._kept_since(began_s, question, control)  # perhaps between the last look and now
        if (
            found is None and has_waited and self._leases is not None
        ):  # what the other one computed cannot be kept: nobody needs to wait for this
            self._leases.give_back(question.work)
        return found

    def led(self, question: Question) -> None:
        """The answer was kept, or will not come: when the stores have it, others may look for it."""
        if self._leases is not None:
            self._leases.give_back(question.work, after=self.flush)

    async def keep(self, entry: Entry) -> bool:
        """Keep an answer, unless it was rejected; it is found at once, and in the stores soon."""
        if await self._get(("case", entry.tenant, case_key(entry.key, entry.answer))) is not None:
            self.counts["refused"] += 1
            return False
        if self._ttl_s is not None and entry.expires_s is None:
            entry = replace(entry, expires_s=entry.created_s + self._ttl_s)
        row = entry.row()
        await self.put(row)
        if self._nearby is not None:
            self._nearby.add(row)
        self.counts["kept"] += 1
        return True

    async def compare(self, question: Question, missed: Missed, answer: str) -> None:
        """Learn from an answer that was computed whether a doubtful near one would have done.

        Nothing is learned where that cannot be told, nor of what people wrote: a model is no judge of that. Raises
        nothing where an embedder is down or an answer too long for it; the answer was given already.
        """
        if self._nearby is None or missed.doubtful is None:
            return
        try:
            kept = await self.entry(bytes.fromhex(missed.doubtful["entry"]), question.tenant)
            if kept is None or kept.origin == "curated":
                return
            right = await self._nearby.agree(kept.answer, answer)
            if right is not None:
                await self.learn(question.tenant, missed.doubtful, right=right, source="model")
        except MiaotuiError:
            self.counts["errors"] += 1

    def compare_soon(self, question: Question, missed: Missed, answer: str) -> None:
        """The same while nobody waits for it; what goes wrong is counted."""
        if self._nearby is None or missed.doubtful is None or len(self._comparing) >= MAX_COMPARING:
            return
        task = asyncio.create_task(self._compare_quietly(question, missed, answer))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def learn(self, tenant: str, candidate: Mapping[str, Any], *, right: bool, source: str) -> None:
        """Learn whether the answer of a near question, as a decision shows it, was right."""
        if self._nearby is not None and {"entry", "similarity", "distance"} <= set(candidate):
            await self._nearby.learn(tenant, candidate, right=right, source=source, now_s=self._now())

    @property
    def has_near(self) -> bool:
        """Whether questions of the same meaning are looked for."""
        return self._nearby is not None

    async def parted(self, tenant: str, one: str, other: str) -> bool:
        """Whether somebody has told two questions apart."""
        return await self._get(("case", tenant, pair_key(one, other))) is not None

    async def nearness(self, asked: str, entry: Entry) -> Mapping[str, Any] | None:
        """How close a question is to a kept one, as `learn` takes it; None where that cannot be said."""
        if self._nearby is None:
            return None
        try:
            return await self._nearby.nearness(asked, entry.row())
        except MiaotuiError:  # the embedder is down or busy, or the question too long for it
            self.counts["errors"] += 1
            return None

    async def put(self, row: Row) -> None:
        """Seal a row and have it kept."""
        row = row.sealed(self._secret)
        if self.levels:
            await self._quietly(0, row)
        self._writer.add(row)

    async def put_now(self, rows: Sequence[Row]) -> None:
        """Seal rows and keep them in every store before this returns. Raises StoreError where one is down.

        Other processes give what was there before for a second at most.
        """
        sealed = [row.sealed(self._secret) for row in rows]
        for level in self.levels:
            await level.put(sealed)
        await self._changed({row.tenant for row in rows})

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
            "near_index": None if self._nearby is None else self._nearby.counters(),
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
        """Genuine rows of the last store, newest first; fewer than `limit` where there are no more.

        Raises StoreError where that is down.
        """
        found: list[Row] = []
        async for row in self.each_row(which, behind=behind, page=min(limit, PAGE)):
            found.append(row)
            if len(found) == limit:
                break
        return found

    async def each_row(self, which: Filter, *, behind: Row | None = None, page: int = PAGE) -> AsyncIterator[Row]:
        """All genuine rows of the last store, newest first, so many fetched at once. Raises StoreError where that is
        down."""
        while rows := await self.levels[-1].rows(which, now_s=self._now(), limit=page, behind=behind):
            for row in rows:
                if row.is_genuine(self._secret):
                    yield row
            behind, page = rows[-1], PAGE

    async def delete(self, which: Filter) -> int:
        """Remove rows everywhere; how many the last store had. Raises StoreError where one is down.

        Other processes give what was removed for a second at most.
        """
        await self.flush()
        if self._nearby is not None and which.kind == "answer" and which.tenant is not None and which.key is not None:
            self._nearby.forget(which.tenant, which.key)
        tenants = {which.tenant} if which.tenant is not None else {row.tenant async for row in self.each_row(which)}
        num_removed = [await level.delete(which) for level in self.levels][-1]
        await self._changed(tenants)
        return num_removed

    async def _changed(self, tenants: set[str]) -> None:
        """Answers of theirs were taken out or replaced."""
        for tenant in tenants:
            self._presence.forget(tenant)
        if self._generations is not None:
            await self._generations.change(tenants)

    async def _forget(self, tenant: str) -> None:
        """Another process has changed a tenant's answers."""
        await self.levels[0].delete(Filter("answer", tenant))
        self._presence.forget(tenant)

    def _count_error(self) -> None:
        self.counts["errors"] += 1

    async def _compare_quietly(self, question: Question, missed: Missed, answer: str) -> None:
        try:
            await self.compare(question, missed, answer)
        except Exception:
            log.exception("an answer could not be compared with a kept one")

    def _count(self, found: Found) -> None:
        self.counts[found.path] += 1
        self.saved_s += found.entry.cost_s

    async def _curated(self, question: Question) -> Found | None:
        """Somebody's own answer, where the question stands for itself."""
        tenant, params = question.tenant, question.params
        if not question.is_first or params.n > 1 or params.logprobs is not None or params.prompt_logprobs is not None:
            return None
        await self._look_around(tenant)  # there may be some since a moment
        if not self._presence.may_have(tenant):
            return None
        kept = await self._get_entry(("answer", tenant, curated_key(tenant, question.text or "")))
        return None if kept is None else Found(kept[0], "curated", "somebody wrote an answer to this question")

    async def _find_near(self, question: Question, control: CacheControl) -> tuple[Found | None, Missed]:
        """An answer to a question of the same meaning, or what was seen."""
        plain = Missed("nobody has asked this before", keep=True)
        if self._nearby is None or control.near is False or not question.text:
            return None, plain
        try:
            look = await self._nearby.look(question)
        except MiaotuiError as error:  # the embedder is down or busy, or the question too long for it
            self.counts["errors"] += 1
            return None, replace(plain, why=f"nobody has asked this before; no near look: {error}")
        if (near := look.near) is None:
            return None, replace(plain, vector=look.vector)
        best = near.best.as_fields()
        if near.row is not None and (entry := await self._fit(near.row, question, control)) is not None:
            why = f"a question of the same meaning was asked before: {near.why}"
            guards = dict(best["guards"])
            return Found(entry, "near", why, entry.question, near.similarity, guards, look.candidates), plain
        self.counts["near_refused"] += 1
        doubtful = best if near.row is None and near.best.decision is not None else None
        why = f"nobody has asked this before; the nearest question will not do: {near.why}"
        return None, Missed(why, keep=True, vector=look.vector, candidates=look.candidates, doubtful=doubtful)

    async def _fit(self, row: Row, question: Question, control: CacheControl) -> Entry | None:
        """A near row's answer, if this question may have it: never once somebody has told the two apart."""
        kept = self._entry_of(row)
        if kept is None or await self.parted(question.tenant, question.text or "", kept.question):
            return None
        return kept if self._suits(kept, question, control) else None

    async def _read_genuine(self, name: Name) -> Row | None:
        found = await self._get(name)
        return None if found is None else found[0]

    async def _find(self, name: Name, question: Question, control: CacheControl) -> Found | None:
        """The kept answer of that name, if it is young and short enough."""
        kept = await self._get_entry(name)
        if kept is None or not self._suits(kept[0], question, control):
            return None
        return Found(kept[0], "memory" if kept[1] == 0 else "store", "the same was asked before")

    async def _kept_since(self, began_s: float, question: Question, control: CacheControl) -> Found | None:
        """What was kept meanwhile, here or by another process; who asked for a new answer gets none from before.

        Where memory has one that will not do, there may be another where processes meet.
        """
        for first in dict.fromkeys((0, self._shared_from or 0)):
            kept = await self._get_entry(("answer", question.tenant, question.key), first)
            if kept is None or not self._suits(kept[0], question, control):
                continue
            if control.mode == "refresh" and kept[0].created_s < began_s:
                continue
            found = Found(kept[0], "memory" if kept[1] == 0 else "store", "the same was asked at that moment")
            self._count(found)
            return found
        return None

    def _suits(self, entry: Entry, question: Question, control: CacheControl) -> bool:
        """Whether an answer is young and short enough."""
        if control.max_age_s is not None and self._now() - entry.created_s > control.max_age_s:
            return False
        max_tokens = question.params.max_tokens
        return max_tokens is None or entry.output_tokens <= max_tokens

    async def _get_entry(self, name: Name, first: int = 0) -> tuple[Entry, int] | None:
        """As `_get`, of an answer; one that another version wrote in another form counts as not there."""
        row = await self._get(name, first)
        entry = None if row is None else self._entry_of(row[0])
        return None if row is None or entry is None else (entry, row[1])

    @staticmethod
    def _entry_of(row: Row) -> Entry | None:
        try:
            return entry_of(row)
        except ValueError:
            return None

    async def _get(self, name: Name, first: int = 0) -> tuple[Row, int] | None:
        """A genuine row, and the level it came from; the levels before that have it from now on. first: where to look.

        What other processes took out a second ago is not there.
        """
        if name[0] == "answer":
            await self._look_around(name[1])
        known, now_s = self._known(name[1]), self._now()
        for number, level in enumerate(self.levels[first:], first):
            try:
                row = await level.get(name, now_s)
            except StoreError:
                self._count_error()
                continue
            if row is None:
                continue
            if (row.kind, row.tenant, row.key) != name or not row.is_genuine(self._secret):
                self.counts["tampered"] += 1
                continue
            for before in range(number if self._known(name[1]) == known else 0):  # else it may be one taken out
                await self._quietly(before, row)
            return row, number
        return None

    async def _look_around(self, tenant: str) -> None:
        """Forget what other processes have taken out or replaced."""
        if self._generations is not None:
            await self._generations.look(tenant)

    def _known(self, tenant: str) -> bytes:
        return b"" if self._generations is None else self._generations.known(tenant)

    async def _quietly(self, level: int, row: Row) -> None:
        try:
            await self.levels[level].put([row])
        except StoreError:
            self._count_error()


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
