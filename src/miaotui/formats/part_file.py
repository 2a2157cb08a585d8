"""A file on its way: hidden until it is whole, and gone on with after an interrupt or a crash."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import zlib
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from miaotui.errors import OutputError

_ENTRY = struct.Struct("<QI")
"""Of the journal: the length of the file after a piece, and the piece's CRC-32."""
_CHECK_BYTES = 1 << 22


class PartFile:
    """`.NAME.DIGEST.part` beside `path`, with a journal of its pieces; what the same header begins is the same file.

    size: bytes that are there and whole. Raises OSError, and OutputError where another process writes the same.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{hashlib.sha256(header).hexdigest()[:16]}.part")
        self._journal = self._part.with_suffix(".journal")
        _remove_others(path, self._part)
        self._file = _locked(self._part)
        try:
            self._log = _opened(self._journal)
            self.size = 0
            self._take_over()
            if self.size < len(header):
                self._cut(0)
                self.append(header)
        except BaseException:
            self.close(keep=False)
            raise

    def append(self, *parts: bytes | memoryview) -> None:
        """A piece, whole once this returns."""
        crc = 0
        for part in parts:
            self._file.write(part)
            crc = zlib.crc32(part, crc)
            self.size += len(part)
        self._file.flush()
        self._log.write(_ENTRY.pack(self.size, crc))
        self._log.flush()

    def finish(self) -> None:
        """Make it durable and let it appear."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)
        self.close(keep=False)

    def close(self, *, keep: bool) -> None:
        """End; unless `keep`, nothing is left."""
        if not keep:
            self._part.unlink(missing_ok=True)
            self._journal.unlink(missing_ok=True)
        with suppress(OSError, AttributeError):  # what is still to be flushed is not wanted, or will be written again
            self._log.close()
        with suppress(OSError):
            self._file.close()

    def _take_over(self) -> None:
        """Keep the pieces that are as the journal says."""
        entries = self._log.read()
        for at in range(0, len(entries) - len(entries) % _ENTRY.size, _ENTRY.size):
            end, expected = _ENTRY.unpack_from(entries, at)
            if end <= self.size or _crc(self._file, end - self.size) != expected:
                self._cut(at)
                return
            self.size = end
        self._cut(len(entries) - len(entries) % _ENTRY.size)

    def _cut(self, journal_bytes: int) -> None:
        if journal_bytes == 0:
            self.size = 0
        for file, length in ((self._file, self.size), (self._log, journal_bytes)):
            file.seek(length)
            file.truncate()


def _crc(file: BinaryIO, count: int) -> int | None:
    """Of the next bytes; None where there are not so many."""
    crc = 0
    while count:
        part = file.read(min(count, _CHECK_BYTES))
        if not part:
            return None
        crc = zlib.crc32(part, crc)
        count -= len(part)
    return crc


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "r+b")


def _locked(path: Path) -> BinaryIO:
    file = _opened(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise OutputError(
            f"{path.name}: another process writes this file now; wait for it, or write elsewhere."
        ) from None
    try:
        is_there = os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        is_there = False
    if is_there:
        return file
    file.close()  # whoever had it has finished it meanwhile, and it has another name
    return _locked(path)


def _remove_others(path: Path, part: Path) -> None:
    """What was begun for the same place with other contents, unless somebody is at it."""
    for old in path.parent.glob(f".{escape(path.name)}.{'[0-9a-f]' * 16}.part"):
        if old == part:
            continue
        with suppress(OSError):
            file = _locked(old)
            old.unlink()
            old.with_suffix(".journal").unlink(missing_ok=True)
            file.close()
