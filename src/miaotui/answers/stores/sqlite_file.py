"""One thread's connection to a file of rows: how it is opened, when it is opened anew, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from miaotui.errors import StoreError

CACHE_KIB = 16 << 10
WAL_PAGES = 16_000
"""Pages of 4 KiB that gather in the log before they are written to their places: many of the same ones, as keys come in
no order. Opening after a crash reads the log once."""
STEPS_BETWEEN_LOOKS = 20_000
"""Steps of SQLite's machine, less than a millisecond, after which it looks whether it takes too long."""

_CAUSES = {
    sqlite3.SQLITE_BUSY: "is locked: another process has been writing for too long; look who has it open",
    sqlite3.SQLITE_LOCKED: "is locked: another process has been writing for too long; look who has it open",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space, or lower the limit of the store",
    sqlite3.SQLITE_READONLY: "cannot be written: make the file and its folder writable, or name another one",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its folder must exist and be writable, or name another file",
    sqlite3.SQLITE_PERM: "may not be opened: its permissions forbid it; name another file",
    sqlite3.SQLITE_CORRUPT: "is damaged: move the file away, and a new one is begun",
    sqlite3.SQLITE_NOTADB: "is no database: name another file",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk failed, or is full; see the system's log",
    sqlite3.SQLITE_INTERRUPT: "took too long; ask for less at once",
}


def store_error(name: str, error: Exception) -> StoreError:
    """What an error of SQLite or of the system means for the user."""
    if isinstance(error, StoreError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    cause = _CAUSES.get(code & 0xFF) if code is not None else None
    return StoreError(f"the answer store {name} {cause or 'failed'} ({error})")


class SqliteFile:
    """A connection that is opened when it is needed, and anew after `drop` or when another file lies in its place.

    To be used by one thread. busy_s: for how long a lock is waited for. prepare: brings the schema up to date; without
    it the file is only read, and must exist.
    """

    def __init__(self, path: Path, busy_s: float, prepare: Callable[[sqlite3.Connection], None] | None = None) -> None:
        self._path = path
        self._busy_s = busy_s
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._deadline_s = float("inf")

    def use(self, seconds: float) -> sqlite3.Connection:
        """The connection, whose statements end with an error after so many seconds. Raises sqlite3.Error, OSError."""
        self._deadline_s = time.monotonic() + seconds
        if self._connection is not None and self._identity != self._identity_now():
            self.drop()  # what is written to a file that was removed is lost
        if self._connection is None:
            self._connection = self._open()
            self._identity = self._identity_now()
        return self._connection

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._path)
        except FileNotFoundError:
            return None
        return facts.st_dev, facts.st_ino

    def _open(self) -> sqlite3.Connection:
        if self._prepare is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(PermissionError):  # SQLite says it better; what was asked is nobody else's business
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        uri = f"{self._path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self._busy_s, isolation_level=None, cached_statements=256)
        try:
            connection.set_progress_handler(self._is_late, STEPS_BETWEEN_LOOKS)
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            if self._prepare is None:
                connection.execute("PRAGMA query_only = ON")
            else:
                self._make_writable(connection)
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_writable(self, connection: sqlite3.Connection) -> None:
        """A commit is on the disk when it returns, at the cost of one sync of the log; readers never wait."""
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        give_up_s = time.monotonic() + self._busy_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:  # SQLite does not wait for this lock by itself
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise sqlite3.OperationalError("its file system has no shared memory, which the write-ahead log needs")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * WAL_PAGES * 4096}")

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline_s
