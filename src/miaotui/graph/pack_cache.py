"""Packed weights kept on disk: the next start reads them instead of packing.

A file `DIGEST-LAYOUT.pack` holds the packed matrices of one model, then a table of them as JSON, then a trailer. DIGEST
is the sha256 of the model's files; as reading them takes longer than packing, `files/` remembers the digest of each set
of files that was seen, by device, inode, size and times. The layout is the same for every instruction-set tier. Nothing
here is needed: what is missing, damaged or of another layout is packed again, and where nothing can be written, nothing
is kept.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from miaotui import _native
from miaotui.errors import MiaotuiError
from miaotui.formats.weights import MappedFile, Weights
from miaotui.graph.nodes import Weight

MIN_BYTES = 16 << 20
"""Less than this is packed faster than a file is found."""

Packed = dict[str, _native.PackedWeight]
Shape = tuple[int, int, int]
"""Type, rows, columns."""

_TRAILER = struct.Struct("<8sQQQQ")  # magic, bytes of the matrices, their checksum, bytes of the table, its CRC-32
_MAGIC = b"MTPACK\r\n"
_MAX_TABLE_BYTES = 64 << 20


class PackCache:
    """The packed models of one folder, together at most `limit_bytes`; those not used for longest make room.

    Several processes may use it at once: files appear whole, by renaming, and stay as they are until they are removed.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    def find(self, weights: Weights, wanted: Sequence[Weight]) -> Packed | None:
        """The wanted matrices by tensor name, if they are here, whole and undamaged; a file that is not is removed."""
        try:
            file = self._file(self._note_of(weights).read_text("ascii"))
        except (OSError, ValueError):
            return None  # never seen, or the note is damaged
        with suppress(OSError):
            os.utime(file)
        try:
            return _read(file, {w.tensor: (int(w.type), w.num_rows, w.num_cols) for w in wanted})
        except OSError as error:
            _note(f"packed again: {error}")
        except (ValueError, KeyError, TypeError, RecursionError, MiaotuiError) as error:
            _note(f"packed again: {error}")
            with suppress(OSError):
                file.unlink()
        return None

    def keep(self, weights: Weights, packed: Packed) -> threading.Thread | None:
        """Start to write the matrices in the background; None if they are too few, or too many for the limit.

        The interpreter waits for it at exit. Failures are logged and change nothing.
        """
        num_bytes = sum(matrix.nbytes for matrix in packed.values())
        if not MIN_BYTES <= num_bytes <= self.limit_bytes:
            return None
        thread = threading.Thread(target=self._keep, args=(weights, dict(packed)), name="miaotui-pack-cache")
        try:
            thread.start()
        except RuntimeError as error:  # there may be no more threads
            _note(f"not kept: {error}")
            return None
        return thread

    def digest(self, weights: Weights) -> str:
        """SHA-256 of the model's files in hexadecimal; they are read where that is not known yet.

        Raises ValueError where one was written or replaced since it was mapped, OSError.
        """
        known = self.known_digest(weights)
        if known is not None:
            return known
        from miaotui.formats.store_files import write_whole

        digest = _digest(weights.files)
        with suppress(OSError):
            write_whole(self._note_of(weights), lambda out: out.write(digest.encode("ascii")))
        return digest

    def known_digest(self, weights: Weights) -> str | None:
        """The same where it is known already: nothing of the model is read."""
        with suppress(OSError, ValueError):
            known = self._note_of(weights).read_text("ascii")
            self._file(known)
            return known
        return None

    def key(self, weights: Weights) -> str:
        """A hash of which files these are and when they were written, in hexadecimal; not of what they hold."""
        import hashlib

        return hashlib.sha256(self._note_of(weights).name.encode()).hexdigest()

    def forget(self, weights: Weights) -> int:
        """Remove what is kept of a model; the bytes that became free."""
        note = self._note_of(weights)
        try:
            file = self._file(note.read_text("ascii"))
            note.unlink()
            freed_bytes = file.stat().st_size
            file.unlink()
        except (OSError, ValueError):
            return 0
        return freed_bytes

    def _keep(self, weights: Weights, packed: Packed) -> None:
        from miaotui.formats.store_files import write_whole

        try:
            digest = self.digest(weights)
            _check_unchanged(weights.files)  # while they were packed
            file = self._file(digest)
            self._remove_stale_parts()
            if not file.exists():  # a damaged one `find` removes
                _check_space(self.folder, sum(matrix.nbytes for matrix in packed.values()))
                write_whole(file, lambda out: _write(out, packed))
            self._make_room(file)
        except (OSError, ValueError, MiaotuiError) as error:
            _note(f"not kept: {error}")

    def _file(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ValueError("a digest is 64 hexadecimal digits")
        return self.folder / f"{digest}-{_native.PACK_LAYOUT}.pack"

    def _note_of(self, weights: Weights) -> Path:
        identities = [file.identity for file in weights.files]
        first = "-".join(f"{part:x}" for part in identities[0])
        return self.folder / "files" / f"{first}-{len(identities)}-{zlib.crc32(repr(identities).encode()):x}"

    def _remove_stale_parts(self) -> None:
        """What a process that was killed left half written an hour ago or more."""
        for part in self.folder.glob("**/*.part"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - 3600:
                    part.unlink()

    def _make_room(self, kept: Path) -> None:
        files = sorted(self.folder.glob("*.pack"), key=lambda f: f.stat().st_mtime)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            if total > self.limit_bytes and file != kept:
                total -= file.stat().st_size
                file.unlink(missing_ok=True)


def _check_space(folder: Path, num_bytes: int) -> None:
    """Raise ValueError where a file of so many bytes would leave less than its own size free on the disk."""
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < 2 * num_bytes:
        raise ValueError(f"{num_bytes} bytes are wanted, and as many to spare, but {folder} has {free}")


def _note(what: str) -> None:
    import logging  # seldom needed, as what this module does for speed must not cost speed

    logging.getLogger(__name__).info("packed weights are %s", what)


def _digest(files: Sequence[MappedFile]) -> str:
    """Of the files that were mapped. Raises ValueError if one of them was written or replaced since."""
    import hashlib

    from miaotui.formats.store_files import digest_file

    digests = [digest_file(file.path) for file in files]
    _check_unchanged(files)
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode("ascii")).hexdigest()


def _check_unchanged(files: Sequence[MappedFile]) -> None:
    """Raise ValueError if one of them was written or replaced since it was mapped, MiaotuiError if it is gone."""
    for file in files:
        if MappedFile(file.path).identity != file.identity:
            raise ValueError(f"{file.path} was changed")


def _write(out: BinaryIO, packed: Packed) -> None:
    table: list[list[object]] = []
    num_bytes = 0
    for name, matrix in packed.items():
        out.write(matrix.data.data)
        table.append([name, matrix.type, matrix.rows, matrix.cols, num_bytes])
        num_bytes += matrix.nbytes
    checksum = _native.checksum([matrix.data for matrix in packed.values()])
    text = json.dumps(table, separators=(",", ":")).encode()
    out.write(text)
    out.write(_TRAILER.pack(_MAGIC, num_bytes, checksum, len(text), zlib.crc32(text)))


def _read(path: Path, wanted: Mapping[str, Shape]) -> Packed:
    """Read a file. Raises ValueError, KeyError, TypeError or ModelFileError where it does not hold what is wanted."""
    file = MappedFile(path)
    if file.size < _TRAILER.size:
        raise ValueError(f"{path} is cut off")
    magic, num_bytes, checksum, table_bytes, crc = _TRAILER.unpack(file.bytes[-_TRAILER.size :].tobytes())
    if magic != _MAGIC or table_bytes > _MAX_TABLE_BYTES or num_bytes + table_bytes + _TRAILER.size != file.size:
        raise ValueError(f"{path} is no whole file of packed weights")
    text = file.bytes[num_bytes : num_bytes + table_bytes].tobytes()
    if zlib.crc32(text) != crc:
        raise ValueError(f"the table of {path} is damaged")
    shapes, places, end = {}, {}, 0
    for name, kind, rows, cols, offset in json.loads(text):
        shapes[name], places[name] = (kind, rows, cols), slice(offset, offset + _native.packed_bytes(kind, rows, cols))
        if offset != end:
            raise ValueError(f"the matrices of {path} do not follow each other")
        end = places[name].stop
    if end != num_bytes or [shapes[name] for name in wanted] != list(wanted.values()) or len(shapes) != len(wanted):
        raise ValueError(f"{path} holds other matrices")
    memory = _native.read_into_memory(str(path), num_bytes)  # as many bytes as the model needs, whoever wrote the file
    if _native.checksum([memory[place] for place in places.values()]) != checksum:
        raise ValueError(f"{path} is damaged")
    items = [(shape[0], memory[places[name]], *shape[1:]) for name, shape in wanted.items()]
    return dict(zip(wanted, _native.adopt_packed(items), strict=True))
