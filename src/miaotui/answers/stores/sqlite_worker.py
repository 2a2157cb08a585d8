"""Threads that do the work of a file of rows, so that the event loop never waits for a disk.

One thread writes. What several tasks have asked for meanwhile becomes one transaction, so that all of them share the
wait for the disk: a commit costs about the same for one row and for a hundred.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from miaotui.answers.stores.sqlite_file import SqliteFile, store_error
from miaotui.errors import StoreError

Result = TypeVar("Result")
Action = Callable[[sqlite3.Connection], Result]
Outcome = tuple["Job", Any, Exception | None]

JOBS_PER_COMMIT = 256


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do with a connection, and who waits for it. seconds: how long it may take."""

    action: Action[Any]
    future: asyncio.Future[Any]
    seconds: float


class Workers:
    """Threads over one queue, each with a connection of its own. Used from one event loop at a time."""

    def __init__(self, name: str, files: Iterable[SqliteFile], run: Callable[[SqliteFile, list[Job]], list[Outcome]],
                 jobs_at_once: int) -> None:  # fmt: skip
        self._name = name
        self._run = run
        self._jobs_at_once = jobs_at_once
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(file,), name=f"miaotui-store-{number}", daemon=True)
            for number, file in enumerate(files)
        ]
        for thread in self._threads:
            thread.start()

    async def do(self, action: Action[Result], seconds: float) -> Result:
        """Have it done. Raises StoreError where it fails or is not done in time; it may be done later all the same."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(action, future, seconds))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise StoreError(
                f"the answer store {self._name} did not answer within {seconds:g} s; its disk may be overloaded"
            ) from None

    async def close(self, seconds: float) -> None:
        """Let the threads end what they do, and close their connections; no longer than so many seconds."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, seconds)

    def _work(self, file: SqliteFile) -> None:
        while jobs := self._take():
            wanted = [job for job in jobs if not job.future.cancelled()]
            if wanted:
                _tell(self._run(file, wanted))
        file.drop()

    def _take(self) -> list[Job]:
        """What is to be done next; nothing at the end."""
        job = self._queue.get()
        if job is None:
            return []
        jobs = [job]
        with suppress(queue.Empty):
            while len(jobs) < self._jobs_at_once:
                job = self._queue.get_nowait()
                if job is None:
                    self._queue.put(None)
                    break
                jobs.append(job)
        return jobs


def _tell(outcomes: list[Outcome]) -> None:
    """Wake those who wait, of each event loop together."""
    loops = {outcome[0].future.get_loop() for outcome in outcomes}
    for loop in loops:
        mine = [outcome for outcome in outcomes if outcome[0].future.get_loop() is loop]
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(_settle, mine)


def _settle(outcomes: list[Outcome]) -> None:
    for job, result, error in outcomes:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)


def read(name: str, file: SqliteFile, jobs: list[Job]) -> list[Outcome]:
    """Do jobs one by one."""
    return [_attempt(name, file, job) for job in jobs]


def _attempt(name: str, file: SqliteFile, job: Job) -> Outcome:
    try:
        return job, job.action(file.use(job.seconds)), None
    except (sqlite3.Error, OSError) as error:
        file.drop()
        return job, None, store_error(name, error)
    except Exception as error:
        return job, None, error


def write(name: str, file: SqliteFile, jobs: list[Job], last: Action[None]) -> list[Outcome]:
    """Do jobs in one transaction, then `last`. One that fails alone does not harm the others."""
    try:
        connection = file.use(max(job.seconds for job in jobs))
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_within(name, connection, job) for job in jobs]
        last(connection)
        connection.execute("COMMIT")
    except Exception as error:
        file.drop()  # which rolls back
        failure = store_error(name, error) if isinstance(error, (sqlite3.Error, OSError)) else error
        return [(job, None, failure) for job in jobs]
    return outcomes


def _within(name: str, connection: sqlite3.Connection, job: Job) -> Outcome:
    connection.execute("SAVEPOINT job")
    try:
        result = job.action(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite has given up all of it, as on a full disk
            raise
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return job, None, store_error(name, error) if isinstance(error, sqlite3.Error) else error
    connection.execute("RELEASE job")
    return job, result, None
