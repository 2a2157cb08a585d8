"""`AsyncEmbedder`: one text encoder for many callers of an event loop, whose texts share its steps."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from miaotui.engine.embedder import Embedder, Vectors, check_dimensions, check_texts, shorten
from miaotui.errors import EngineStoppedError, OverloadedError

MAX_WAITING_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: float32 [texts, dimensions]; num_tokens: of all texts together.

    queue_s: until the first text was taken; read_s: from then until the last vector was there.
    """

    vectors: Vectors
    num_tokens: int
    queue_s: float
    read_s: float


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's texts. `waiting`: those not computed yet, the shortest last, where they are taken."""

    token_ids: list[list[int]]
    vectors: Vectors
    done: asyncio.Future[Vectors]
    waiting: list[int] = field(default_factory=list)
    num_open: int = 0
    dropped: bool = False
    begun_s: float | None = None  # when its first text was taken

    def __post_init__(self) -> None:
        self.waiting = sorted(range(len(self.token_ids)), key=lambda i: -len(self.token_ids[i]))
        self.num_open = len(self.waiting)


class AsyncEmbedder:
    """An `Embedder` whose steps run in a thread of their own, for callers on one event loop.

    Takes the arguments of `Embedder`, or an `Embedder`. An asynchronous context manager; to be created and used on a
    running loop. Callers take turns text by text, so that a single text never waits behind a long list.

    max_waiting: so many texts may wait; callers that would make it more are refused with OverloadedError. A list of any
    length is taken while nothing waits.
    """

    def __init__(
        self, model: str | os.PathLike[str] | Embedder, *, max_waiting: int = MAX_WAITING_TEXTS, **options: Any
    ) -> None:
        self.embedder = model if isinstance(model, Embedder) else Embedder(model, **options)
        self.max_waiting = max_waiting
        self.num_waiting = 0
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._open: set[_Job] = set()  # that have not been answered; touched on the loop only
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="miaotui-embedder", daemon=True)
        self._thread.start()

    @property
    def dimensions(self) -> int:
        """Width of a whole vector."""
        return self.embedder.dimensions

    @property
    def is_alive(self) -> bool:
        """Whether it still computes."""
        return self._thread.is_alive()

    async def embed(self, texts: Sequence[str], *, dimensions: int | None = None, truncate: bool = False) -> Vectors:
        """As `Embedder.embed`; raises OverloadedError where too much waits, EngineStoppedError after `aclose`."""
        return (await self.embed_counted(texts, dimensions=dimensions, truncate=truncate)).vectors

    async def embed_counted(
        self, texts: Sequence[str], *, dimensions: int | None = None, truncate: bool = False
    ) -> Embedded:
        """As `embed`, with the number of tokens."""
        check_texts(texts)
        check_dimensions(dimensions, self.dimensions)
        if self.num_waiting and self.num_waiting + len(texts) > self.max_waiting:
            raise OverloadedError(f"{self.num_waiting} texts wait already; try again in a moment.")
        self.num_waiting += len(texts)
        asked_s = time.monotonic()
        try:
            token_ids = await asyncio.to_thread(self.embedder.encode, texts, truncate=truncate)
            vectors, begun_s = await self._compute(token_ids)
        finally:
            self.num_waiting -= len(texts)
        times_s = begun_s - asked_s, time.monotonic() - begun_s
        return Embedded(shorten(vectors, dimensions), sum(map(len, token_ids)), *times_s)

    async def _compute(self, token_ids: list[list[int]]) -> tuple[Vectors, float]:
        """Vectors, and when the first of them was begun."""
        vectors = np.empty((len(token_ids), self.dimensions), np.float32)
        if not token_ids:
            return vectors, time.monotonic()
        job = _Job(token_ids, vectors, self._loop.create_future())
        with self._changed:
            if self._closing:
                raise EngineStoppedError("the embedder was closed.")
            self._jobs.append(job)
            self._changed.notify()
        self._open.add(job)
        try:
            return await job.done, job.begun_s or time.monotonic()
        finally:
            job.dropped = True
            self._open.discard(job)

    async def aclose(self) -> None:
        """End the thread after the step under way, refuse those who wait, free the memory. Harmless when repeated."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)
        for job in list(self._open):
            self._answer(job, EngineStoppedError("the embedder was closed."))
        self.embedder.close()

    async def __aenter__(self) -> AsyncEmbedder:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _run(self) -> None:
        """The thread: steps while anybody waits. A step that fails is the failure of those who took part in it."""
        while (chosen := self._choose()) is not None:
            try:
                vectors = self.embedder.step([job.token_ids[i] for job, i in chosen])
            except Exception as error:
                for job in {job for job, _ in chosen}:
                    job.dropped = True
                    self._post(job, error)
                continue
            for row, (job, i) in zip(vectors, chosen, strict=True):
                job.vectors[i] = row
                job.num_open -= 1
                if job.num_open == 0:
                    self._post(job, None)

    def _choose(self) -> list[tuple[_Job, int]] | None:
        """The texts of the next step; None at the end."""
        with self._changed:
            while not self._closing:
                if chosen := self._take():
                    return chosen
                self._changed.wait()
            return None

    def _take(self) -> list[tuple[_Job, int]]:
        """One text of each caller in turn, until a step is full; nothing if nobody waits."""
        chosen: list[tuple[_Job, int]] = []
        num_tokens = 0
        while self._jobs and len(chosen) < self.embedder.step_texts:
            job = self._jobs.popleft()
            if job.dropped or not job.waiting:
                continue
            num_tokens += len(job.token_ids[job.waiting[-1]])
            if num_tokens > self.embedder.step_tokens:
                self._jobs.appendleft(job)  # it is its turn in the next step
                break
            job.begun_s = job.begun_s or time.monotonic()
            chosen.append((job, job.waiting.pop()))
            self._jobs.append(job)
        return chosen

    def _post(self, job: _Job, error: Exception | None) -> None:
        """Answer a caller, from the thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._answer, job, error)

    def _answer(self, job: _Job, error: Exception | None) -> None:
        if not job.done.done():
            if error is None:
                job.done.set_result(job.vectors)
            else:
                job.done.set_exception(error)
