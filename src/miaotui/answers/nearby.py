"""Near hits within the cache: vectors for what is kept, a look around for what is asked, lessons from both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miaotui.answers.entry import CURATED
from miaotui.answers.level import Level
from miaotui.answers.near.answers import MAX_ANSWER_CHARACTERS, compared
from miaotui.answers.near.near import MAX_CHARACTERS, Near, NearHits, question_of, wording_distance
from miaotui.answers.near.reading import read
from miaotui.answers.near.vectors import codes_of, length_of, packed, unpacked
from miaotui.answers.question import Question
from miaotui.answers.row import Row
from miaotui.answers.store import Filter
from miaotui.errors import InvalidRequestError, MiaotuiError

log = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
"""Texts to unit vectors, one row each."""

PAGE = 256
REFRESH_S = 10.0
"""So often the store is asked for answers that other processes kept."""
CHECKED_AT_ONCE = 256
"""Questions of which the store is asked, each time, whether it still has their answers."""
OVERLAP_S = 60.0
"""So much older than the newest row seen a row may be that comes later: writers are slow, clocks differ."""
MAX_SEEN = 1 << 16
"""Rows of that time that are remembered."""
SAME_ANSWER = 0.95
"""Two answers whose vectors are as close as this, and which all guards let pass, say the same."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen around a question. vector: its own, as kept; near: None where nothing similar is kept."""

    vector: bytes
    near: Near | None

    @property
    def candidates(self) -> tuple[Mapping[str, Any], ...]:
        """What was looked at, for people."""
        return () if self.near is None else tuple(one.as_fields() for one in self.near.candidates)


class Nearby:
    """Knows the questions of one store by their vectors.

    hits: finds and learns. embed: makes vectors. put: keeps rows, sealed. is_genuine: whether a row may be believed.
    model: whose answers are of use here, beside those of people; None: any.
    """

    def __init__(
        self,
        hits: NearHits,
        embed: Embed,
        put: Callable[[Row], Awaitable[None]],
        is_genuine: Callable[[Row], bool],
        model: str | None = None,
    ) -> None:
        self._hits = hits
        self._embed = embed
        self._put = put
        self._is_genuine = is_genuine
        self._model = model
        self._newest: dict[str, float] = {}
        self._to_check: list[tuple[str, bytes, bytes]] = []
        self._seen: dict[bytes, None] = {}  # what was taken in, in that order
        self._task: asyncio.Task[None] | None = None

    def watch(self, level: Level, now: Callable[[], float]) -> None:
        """Take in what a store holds, and from then on what comes to it."""
        self._task = asyncio.create_task(self._follow(level, now))

    async def close(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self, question: Question) -> Look:
        """What is kept that means the same. Raises what `embed` does."""
        text = question.text or ""
        (vector,) = await self._embed([text])
        near: Near | None = None
        for group in (CURATED, question.group) if question.is_first else (question.group,):
            found = await self._hits.find(text, vector, question.tenant, group)
            if found is not None and (near is None or found.accepted):
                near = found
            if near is not None and near.accepted:
                break
        return Look(packed(vector), near)

    def add(self, row: Row) -> None:
        """An answer is kept."""
        self._hits.add(row)

    def forget(self, tenant: str, key: bytes) -> None:
        """An answer is gone."""
        self._hits.index.forget(tenant, key)

    def counters(self) -> dict[str, int]:
        """How full the index of questions is, and what it has let go or not taken in."""
        index = self._hits.index
        return {
            "questions": len(index),
            "bytes": index.num_bytes,
            "dropped": index.num_dropped,
            "refused": index.num_refused,
        }

    async def nearness(self, asked: str, row: Row) -> Mapping[str, Any] | None:
        """How close a question is to a kept one, as `learn` takes it; None where the row has no vector."""
        kept = unpacked(row.vector)
        if kept is None or len(asked) > MAX_CHARACTERS:
            return None
        codes = codes_of((await self._embed([asked]))[0])
        if codes.size != kept.size:
            return None
        cosine = float(codes.astype(np.int64) @ kept.astype(np.int64)) / (length_of(codes) * length_of(kept))
        distance = wording_distance(read(asked), read(question_of(row)))
        return {"entry": row.key.hex(), "similarity": min(max(cosine, 0.0), 1.0), "distance": distance}

    async def agree(self, one: str, other: str) -> bool | None:
        """Whether two answers say the same; None where that cannot be told. Raises what `embed` does."""
        if one.strip() == other.strip():
            return True
        if max(len(one), len(other)) > MAX_ANSWER_CHARACTERS:
            return None
        verdict = await asyncio.to_thread(compared, one, other)  # up to 20 ms, in which others' tokens would wait
        if verdict is not True:
            return verdict
        first, second = await self._embed([one, other])
        return True if float(first @ second) >= SAME_ANSWER else None

    async def learn(self, tenant: str, candidate: Mapping[str, Any], *, right: bool, source: str, now_s: float) -> None:
        """Remember whether a candidate's answer was right for the question that was asked. source: who says so."""
        key, similarity, distance = bytes.fromhex(candidate["entry"]), candidate["similarity"], candidate["distance"]
        row = self._hits.observed(tenant, key, similarity, distance, right, source, now_s)
        self._remember([row])
        await self._put(row)

    async def _follow(self, level: Level, now: Callable[[], float]) -> None:
        while True:
            for kind in ("answer", "observation"):
                try:
                    await self._take_in(level, Filter(kind), now())
                except MiaotuiError:  # a store or an embedder that is down; later, then
                    continue
                except Exception:
                    log.exception("what other processes kept could not be taken in; it is tried again")
            with suppress(MiaotuiError):  # the same
                await self._tidy(level, now())
            await asyncio.sleep(REFRESH_S)

    async def _take_in(self, level: Level, which: Filter, now_s: float) -> None:
        """Rows since the last time, and those of a minute before that have come late; the newest first."""
        since_s = self._newest.get(which.kind, float("-inf")) - OVERLAP_S
        newest_s, behind = since_s + OVERLAP_S, None
        while rows := await level.rows(which, now_s=now_s, limit=PAGE, behind=behind):
            newest_s, behind = max(newest_s, min(rows[0].created_s, now_s)), rows[-1]  # not the future, by odd clocks
            young = [row for row in rows if row.created_s >= since_s]
            new = [row for row in young if _mark(row) not in self._seen and self._is_genuine(row)]
            await self._take(level, which.kind, new, now_s)
            self._remember([row for row in new if row.created_s >= newest_s - OVERLAP_S])
            if len(young) < len(rows):
                break
        self._newest[which.kind] = newest_s

    async def _tidy(self, level: Level, now_s: float) -> None:
        """Forget questions whose answers the store has let go, some at a time; new ones are not looked at at once."""
        if not self._to_check:
            self._to_check = self._hits.index.names()
        some, self._to_check = self._to_check[:CHECKED_AT_ONCE], self._to_check[CHECKED_AT_ONCE:]
        for tenant, group, key in some:
            if await level.get(("answer", tenant, key), now_s) is None:
                self._hits.remove(tenant, group, key)

    def _remember(self, rows: Sequence[Row]) -> None:
        """These were taken in; they may be met again for a while."""
        for row in rows:
            self._seen[_mark(row)] = None
        while len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]

    async def _take(self, level: Level, kind: str, rows: Sequence[Row], now_s: float) -> None:
        if kind == "observation":
            for row in rows:
                self._hits.learn(row)
            return
        rows = [row for row in rows if self._model is None or row.model in ("", self._model)]
        bare = [(row, question_of(row)) for row in rows if not row.vector]
        bare = [(row, question) for row, question in bare if 0 < len(question) <= MAX_CHARACTERS]
        vectors = await self._vectors([question for _, question in bare])
        for (row, _), vector in zip(bare, vectors, strict=True):
            if vector is not None:
                await self._complete(level, row, replace(row, vector=packed(vector)), now_s)
        for row in rows:
            if row.vector:
                self.add(row)

    async def _vectors(self, questions: Sequence[str]) -> Sequence[NDArray[np.float32] | None]:
        """One for each question; None for those that the model cannot read. Raises what else `embed` does."""
        if not questions:
            return ()
        try:
            return list(await self._embed(questions))
        except InvalidRequestError:  # one is too long: the others must not wait for it for ever
            if len(questions) == 1:
                return (None,)
        return [vector for question in questions for vector in await self._vectors([question])]

    async def _complete(self, level: Level, bare: Row, row: Row, now_s: float) -> None:
        """Keep a row with its vector, unless it was taken out or replaced while that was made. Raises StoreError."""
        there = await level.get((row.kind, row.tenant, row.key), now_s)
        if there is not None and there.mac == bare.mac:
            await self._put(row)
            self.add(row)


def _mark(row: Row) -> bytes:
    """What tells a row from all others: observations are never replaced, and known here before they are sealed."""
    return row.key if row.kind == "observation" else row.mac
