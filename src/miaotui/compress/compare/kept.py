"""The reference's log-probabilities of a batch of positions, in a temporary file that nobody else can see."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from miaotui.errors import OutputError


class KeptRows:
    """Rows [positions, vocabulary] in float16, and each one's most likely token as float32 had it.

    Half precision is enough for divergences: rows are normalized again when they are read, so that what rounding
    leaves is an error of 2⁻¹¹ of each log-probability times p (log p - log q), below 0.1 % of a mean divergence. The
    file has no name and goes with the process, however that ends.
    """

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._best: list[int] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open until `close`)
        except OSError as error:
            raise _no_room(folder, error) from None
        self._folder = folder

    @staticmethod
    def num_bytes(num_positions: int, vocab_size: int) -> int:
        """Bytes on disk of so many rows."""
        return 2 * num_positions * vocab_size

    def append(self, log_probs: NDArray[np.float32]) -> None:
        """Keep rows behind those that are there. Raises OutputError where the disk is full."""
        self._best += log_probs.argmax(axis=1).tolist()
        try:
            self._file.write(log_probs.astype(np.float16).data)
        except OSError as error:
            raise _no_room(self._folder, error) from None

    def rows(self, first: int, last: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Log-probabilities of rows first … last - 1, and the most likely tokens."""
        width = 2 * self._vocab_size
        self._file.seek(first * width)
        data = self._file.read((last - first) * width)
        return np.frombuffer(data, np.float16).reshape(-1, self._vocab_size), np.array(self._best[first:last])

    def clear(self) -> None:
        """Forget all rows, for the next batch."""
        self._best.clear()
        self._file.seek(0)
        self._file.truncate()

    def __enter__(self) -> KeptRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _no_room(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{folder}: cannot keep the first model's probabilities ({error.strerror or error}); make room there, give "
        "fewer --windows, or less --scratch."
    )
