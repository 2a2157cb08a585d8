"""The texts a student learns from, and what the teacher would have said at each of their tokens: one file.

A header of 4 KiB (JSON, padded) and records of equal size, appended one by one: what an interruption left of the last
one is dropped, and the rest need not be computed again. Read through a memory map.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import ConfigError, OutputError

HEADER_BYTES = 4096
FORMAT = "miaotui corpus 1"


class Origin(IntEnum):
    """Who wrote a sequence."""

    TEXT = 0
    TEACHER = 1
    STUDENT = 2


Records = NDArray[np.void]
"""Fields: origin; ids [tokens]; top_ids, top_logprobs [tokens, k]: of the token behind each one."""


class Corpus:
    """Records on disk, for one teacher and one shape. Not for two processes at once.

    Raises ConfigError for a file that another teacher or setting made, OutputError where it cannot be written.
    """

    def __init__(self, path: Path, made_by: Mapping[str, str | int], tokens: int, top_k: int) -> None:
        self._path = path
        self.record = np.dtype(
            [
                ("origin", "<i4"),
                ("ids", "<i4", (tokens,)),
                ("top_ids", "<i4", (tokens, top_k)),
                ("top_logprobs", "<f4", (tokens, top_k)),
            ]
        )
        head = {"format": FORMAT, "tokens": tokens, "top_k": top_k, **made_by}
        header = json.dumps(head, sort_keys=True).encode().ljust(HEADER_BYTES)
        try:
            self._open(header)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error}); choose another place.") from None

    def __len__(self) -> int:
        return self._count

    def append(self, records: Sequence[Records]) -> None:
        """Raises OutputError where the disk is full; what was there stays."""
        try:
            with self._path.open("r+b") as file:
                file.seek(HEADER_BYTES + self._count * self.record.itemsize)
                for record in records:
                    file.write(record.tobytes())
                file.truncate()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error}); free some space.") from None
        self._count += len(records)

    def read(self, first: int, last: int) -> Records:
        """Records first … last, read-only."""
        start = HEADER_BYTES + first * self.record.itemsize
        return np.memmap(self._path, self.record, "r", start, (last - first,))

    def count(self, origin: Origin) -> int:
        """Sequences of that origin."""
        return int((self.read(0, len(self))["origin"] == origin).sum()) if len(self) else 0

    def _open(self, header: bytes) -> None:
        if not self._path.exists():
            self._path.write_bytes(header)
        with self._path.open("rb") as file:
            found = file.read(HEADER_BYTES)
        if found != header:
            raise ConfigError(
                f"{self._path}: was made by another teacher, or for other settings; remove it, or work elsewhere."
            )
        self._count = (self._path.stat().st_size - HEADER_BYTES) // self.record.itemsize
