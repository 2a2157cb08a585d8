"""Disk work of the model store: locks between processes, space checks, checksums, the record kept beside a model."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from miaotui.errors import DownloadError
from miaotui.formats.store_names import is_safe_segment
from miaotui.formats.store_progress import Progress, folder_bytes, format_bytes

RECORD_FILE = "miaotui.json"
CHUNK_BYTES = 1 << 20
_MAX_RECORD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """What the store remembers of a model: `file` is the model file in its folder; empty: the folder is the model."""

    name: str
    file: str
    source: str
    size_bytes: int

    def write(self, folder: Path) -> None:
        """Store the record in the model's folder."""
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Record | None:
        """The record of a folder of the store; None when it is missing or not one that `write` makes."""
        try:
            with (folder / RECORD_FILE).open("rb") as stream:
                table = json.loads(stream.read(_MAX_RECORD_BYTES))
            record = cls(**table)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        kinds = {"name": str, "file": str, "source": str, "size_bytes": int}
        sound = all(type(getattr(record, field)) is kind for field, kind in kinds.items())
        return record if sound and (record.file == "" or is_safe_segment(record.file)) else None


@contextmanager
def exclusive(lock_file: Path, progress: Progress | None = None) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when its holder dies."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                progress.note("another process is working on the same model; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def require_space(folder: Path, needed_bytes: int, name: str) -> None:
    """Refuse a download that will not fit, before it starts.

    Raises:
        DownloadError: `folder`'s disk has less than `needed_bytes` free, counting what an earlier try left there.
    """
    missing_bytes = needed_bytes - folder_bytes(folder)
    import shutil

    free_bytes = shutil.disk_usage(folder).free
    if missing_bytes > free_bytes:
        raise DownloadError(
            f"{name} needs {format_bytes(missing_bytes)} in {folder} and {format_bytes(free_bytes)} are free; "
            "free some space, or set MIAOTUI_HOME to a folder on a bigger disk"
        )


def copy_and_digest(source: BinaryIO, target: Path, limit_bytes: int) -> str:
    """Copy a stream into a file, flushed to the disk; the sha256 of what was copied.

    Raises:
        DownloadError: the stream is longer than `limit_bytes`.
    """
    import hashlib

    digest = hashlib.sha256()
    copied_bytes = 0
    with target.open("wb") as out:
        while chunk := source.read(CHUNK_BYTES):
            copied_bytes += len(chunk)
            if copied_bytes > limit_bytes:
                raise DownloadError(f"{target.name} is longer than the {limit_bytes} bytes that were announced")
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of a file."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_digest(name: str, actual: str, expected: str) -> None:
    """Raises DownloadError when two sha256 differ."""
    if actual != expected:
        raise DownloadError(
            f"{name} arrived damaged or changed: its sha256 is {actual}, not {expected}; "
            "nothing was stored. Try again; if it stays so, the source has changed and must not be trusted"
        )


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears at once, whole, in a folder that need not exist; if `write` fails, nothing stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("xb") as out:
            write(out)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def place(staged: Path, final: Path) -> None:
    """Move a finished folder into the store in one step; a broken one of that name gives way."""
    final.parent.mkdir(parents=True, exist_ok=True)
    delete(final)
    staged.rename(final)


def delete(path: Path) -> None:
    """Delete a folder with all that is in it, or a link without what it points at; nothing there is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        import shutil

        shutil.rmtree(path)
