"""KV pages kept on disk, so that what was read before a restart need not be read again.

One file per page, named by the key that its prefix has in the tree (a chain of SHA-256 from the tenant's root on), in
a folder named by everything its numbers depend on: the model's files and hyper-parameters, the types they are computed
in, the layout of pages and the version of this package, but not the instruction set, whose tiers give the same bits.
Nothing here is needed: what is missing, torn or damaged is read by the model again, and where nothing can be written,
nothing is kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
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


def fingerprint(*facts: object) -> str:
    """A name for a folder of pages that depend on these facts."""
    from miaotui import __version__

    return hashlib.sha256(repr((__version__, *facts)).encode()).hexdigest()[:32]


class PrefixStore:
    """The pages of one model in a folder; those of all models together take at most `limit_bytes`.

    home: of all models' folders. kv: the pool that pages are read into and written from. Several processes may use a
    folder at once: files appear whole. Not safe for concurrent use within one.
    """

    def __init__(self, home: Path, name: str, kv: _native.KvPool, limit_bytes: int) -> None:
        self._home, self._folder = home, home / name
        self._kv = kv
        self._limit_bytes = limit_bytes
        self._file_bytes = _HEADER.size + kv.page_bytes
        self._keys: set[Key] = set()
        self._works = True
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for entry in os.scandir(self._folder):
                self._take_up(entry)
        except OSError as error:
            self._give_up(error)

    def _take_up(self, entry: os.DirEntry[str]) -> None:
        stem, suffix = os.path.splitext(entry.name)
        if suffix == _SUFFIX and len(stem) == 64 and entry.stat(follow_symlinks=False).st_size == self._file_bytes:
            with suppress(ValueError):
                self._keys.add(bytes.fromhex(stem))

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def max_pages(self) -> int:
        """Pages that the limit has room for."""
        return max(self._limit_bytes // self._file_bytes, 1)

    def load(self, key: Key, block: int) -> bool:
        """Fill a page of the pool that nobody uses; False where what is kept cannot be used, which is forgotten."""
        try:
            data = np.fromfile(self._file(key), np.uint8)
            self._kv.write_page(block, _checked(data, key, self._file_bytes))
        except (OSError, ValueError) as error:
            log.warning("a page of the prefix cache is not used: %s", error)
            self._keys.discard(key)
            with suppress(OSError):
                self._file(key).unlink()
            return False
        return True

    def save(self, key: Key, block: int) -> None:
        """Keep a page of the pool, which must be full."""
        if not self._works or key in self._keys:
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
            self._give_up(error)
            return
        self._keys.add(key)

    def touch(self, keys: Iterable[Key]) -> None:
        """These were of use, in order of position: the last of a prefix is removed first."""
        for key in reversed(list(keys)):
            if key in self._keys:
                with suppress(OSError):
                    os.utime(self._file(key))

    def make_room(self) -> None:
        """Remove what was not used for longest, of whatever model, until the rest is within the limit."""
        found: list[tuple[int, int, Path]] = []
        with suppress(OSError):
            for file in self._home.glob(f"*/*{_SUFFIX}"):
                with suppress(OSError):
                    facts = file.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, file))
        total_bytes = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total_bytes <= self._limit_bytes:
                return
            total_bytes -= size
            with suppress(OSError):
                file.unlink()
            if file.parent == self._folder:
                self._keys.discard(bytes.fromhex(file.stem))

    def _file(self, key: Key) -> Path:
        return self._folder / f"{key.hex()}{_SUFFIX}"

    def _give_up(self, error: OSError) -> None:
        self._works = False
        log.warning("the prefix cache is not kept on disk: %s", error)


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
