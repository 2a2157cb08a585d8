"""KV pages kept on disk, so that what was read before a restart need not be read again.

One file per page, named by the key that its prefix has in the tree (a chain of SHA-256 from the tenant's root on), in
a folder named by everything its numbers depend on: what the model's files hold, hyper-parameters, the types they are
computed in, the layout of pages and the version of this package, but not the instruction set, whose tiers give the same
bits.
Nothing here is needed: what is missing, torn or damaged is read by the model again, and where nothing can be written,
nothing is kept. What is damaged is removed; what only could not be read stays, for others and for the next start.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import math
import os
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from miaotui import _native
from miaotui.engine.prefix_tree import Key

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<8s32sQ16x")  # magic, key, checksum of the page; 64 bytes, as the page's are a multiple of
_MAGIC = b"MTPAGE\r\n"
_SUFFIX = ".kv"
STALE_S = 3600
"""A file that is not finished after so long will not be."""
PAUSE_S = 60
"""So long nothing is written after the disk was full, or refused for another reason that may pass."""

_LASTING = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""Errors of a folder that cannot be written at all; others may pass."""


def folder_name(*facts: object) -> str:
    """A name for a folder of pages that depend on these facts."""
    from miaotui import __version__

    return hashlib.sha256(repr((__version__, *facts)).encode()).hexdigest()[:32]


class PrefixStore:
    """The pages of one model in a folder; those of all models together take at most `limit_bytes`.

    home: of all models' folders. kv: the pool that pages are read into and written from. Several processes may use a
    folder at once: files appear whole. Not safe for concurrent use within one.

    The folders are looked through again only when half of what was free has been written, so that two who write at
    once still keep to the limit. A sixteenth of it is made free at once for that.
    """

    def __init__(self, home: Path, name: str, kv: _native.KvPool, limit_bytes: int) -> None:
        self._home, self._folder = home, home / name
        self._kv = kv
        self._limit_bytes = limit_bytes
        self._file_bytes = _HEADER.size + kv.page_bytes
        self._keys: set[Key] = set()
        self._pause_end_s = 0.0  # monotonic; infinite once nothing can be kept at all
        self._now_ns = 0
        self._unseen_bytes = 0  # written since the folders were looked through
        self._may_write_bytes = 0  # before they are again
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    with suppress(OSError):  # another process has removed it, or will
                        self._take_up(entry)
        except OSError as error:
            self._give_up(error)

    def _take_up(self, entry: os.DirEntry[str]) -> None:
        key = _key_of(entry.name)
        if key is not None and entry.stat(follow_symlinks=False).st_size == self._file_bytes:
            self._keys.add(key)
        elif entry.name.endswith(".part") and time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_S:
            os.unlink(entry.path)  # of a process that was killed

    @property
    def works(self) -> bool:
        """Whether anything can be kept now; not for a while after the disk was full, nor ever where it refuses all."""
        return time.monotonic() >= self._pause_end_s

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def max_pages(self) -> int:
        """Pages that stay when room has been made; of more, the first would be removed for the last, in circles."""
        return max((self._limit_bytes - self._spare_bytes) // self._file_bytes, 1)

    @property
    def _spare_bytes(self) -> int:
        """What is made free at once, in whole pages."""
        return self._limit_bytes // 16 // self._file_bytes * self._file_bytes

    def load(self, key: Key, block: int) -> bool:
        """Fill a page of the pool that nobody uses; False where what is kept cannot be used.

        That is forgotten, so that it is written anew, and removed where it is damaged.
        """
        try:
            data = np.frombuffer(self._file(key).read_bytes(), np.uint8)  # np.fromfile takes bad blocks for an end
            self._kv.write_page(block, _checked(data, key, self._file_bytes))
        except FileNotFoundError:  # another process has made room
            self._keys.discard(key)
            return False
        except (OSError, ValueError) as error:
            log.warning("a page of the prefix cache is not used: %s", error)
            self._keys.discard(key)
            if isinstance(error, ValueError):
                with suppress(OSError):
                    self._file(key).unlink()
            return False
        return True

    def save(self, key: Key, block: int) -> None:
        """Keep a page of the pool, which must be full."""
        if not self.works or key in self._keys:
            return
        from miaotui.formats.store_files import write_whole

        page = self._kv.read_page(block)
        header = _HEADER.pack(_MAGIC, key, _native.checksum([page]))

        def write(out: BinaryIO) -> None:
            os.fchmod(out.fileno(), 0o600)  # what was asked is nobody else's business
            out.write(header)
            out.write(page.data)

        try:
            write_whole(self._file(key), write)
        except OSError as error:
            self._stop_for(error)
            return
        self._keys.add(key)
        self._unseen_bytes += self._file_bytes
        self._mark(key)

    def _mark(self, key: Key) -> None:
        """It was used after all others: the kernel's own times are equal for some milliseconds."""
        self._now_ns = max(self._now_ns + 1, time.time_ns())
        with suppress(OSError):
            os.utime(self._file(key), ns=(self._now_ns, self._now_ns))

    def touch(self, keys: Iterable[Key]) -> None:
        """These were of use, in order of position: the last of a prefix is removed first."""
        for key in reversed(list(keys)):
            if key in self._keys:
                self._mark(key)

    def make_room(self) -> None:
        """Remove what was not used for longest, of whatever model, until the rest is within the limit.

        Costs nothing but now and then; on average a few dozen looks at a file's size for each page written.
        """
        if self._unseen_bytes <= self._may_write_bytes:
            return
        found = self._look_through()
        total_bytes = sum(size for _, size, _ in found)
        if total_bytes > self._limit_bytes - self._spare_bytes // 2:
            total_bytes = self._remove(sorted(found), total_bytes, self._limit_bytes - self._spare_bytes)
        self._unseen_bytes = 0
        self._may_write_bytes = max(self._limit_bytes - total_bytes, 0) // 2

    def _look_through(self) -> list[tuple[int, int, str]]:
        """When each page of any model was used last, its bytes and its path."""
        found: list[tuple[int, int, str]] = []
        with suppress(OSError), os.scandir(self._home) as folders:
            for folder in folders:
                with suppress(OSError), os.scandir(folder.path) as files:
                    for file in files:
                        if file.name.endswith(_SUFFIX):
                            with suppress(OSError):  # another process has removed it
                                facts = file.stat(follow_symlinks=False)
                                found.append((facts.st_mtime_ns, facts.st_size, file.path))
        return found

    def _remove(self, found: Iterable[tuple[int, int, str]], total_bytes: int, wanted_bytes: int) -> int:
        """Remove the first of these until so many bytes are left; how many are left."""
        for _, size, path in found:
            if total_bytes <= wanted_bytes:
                break
            total_bytes -= size
            with suppress(OSError):
                os.unlink(path)
            folder, name = os.path.split(path)
            if folder == str(self._folder) and (key := _key_of(name)) is not None:
                self._keys.discard(key)
        return total_bytes

    def _file(self, key: Key) -> Path:
        return self._folder / f"{key.hex()}{_SUFFIX}"

    def _stop_for(self, error: OSError) -> None:
        """Write nothing for a while, or never again, by what went wrong. A full disk gets some of its space back."""
        if error.errno in _LASTING:
            self._give_up(error)
            return
        self._pause_end_s = time.monotonic() + PAUSE_S
        log.warning("nothing is added to the prefix cache on disk for %s s: %s", PAUSE_S, error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            found = self._look_through()
            total_bytes = sum(size for _, size, _ in found)
            self._remove(sorted(found), total_bytes, total_bytes - total_bytes // 16)

    def _give_up(self, error: OSError) -> None:
        self._pause_end_s = math.inf
        log.warning("the prefix cache is not kept on disk: %s", error)


def _key_of(name: str) -> Key | None:
    """The key of the page that a file of this name holds."""
    stem, suffix = os.path.splitext(name)
    if suffix != _SUFFIX or len(stem) != 64:
        return None
    try:
        return bytes.fromhex(stem)
    except ValueError:
        return None


def _checked(data: NDArray[np.uint8], key: Key, file_bytes: int) -> NDArray[np.uint8]:
    """The page in a file's bytes. Raises ValueError unless it is whole, undamaged and the one that was asked for."""
    if len(data) != file_bytes:
        raise ValueError(f"it has {len(data)} bytes, not {file_bytes}")
    magic, found, checksum = _HEADER.unpack(data[: _HEADER.size].tobytes())
    page = data[_HEADER.size :]
    if magic != _MAGIC or found != key:
        raise ValueError("it is no page, or another one")
    if _native.checksum([page]) != checksum:
        raise ValueError("its checksum differs")
    return page
