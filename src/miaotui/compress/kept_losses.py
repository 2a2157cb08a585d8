"""Losses that were measured, kept line by line: an interrupted mix goes on from them, other limits need no new ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from miaotui.errors import ConfigError, ModelFileError, OutputError
from miaotui.formats.weights import TensorType

MAX_BYTES = 64 << 20
"""Of a file that is read; a group of matrices takes some hundred."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Some matrices' squared error in each type, and the mean KL in nats of the model with them in the type that errs
    most."""

    names: tuple[str, ...]
    errors: Mapping[TensorType, float]
    loss: float


class KeptLosses:
    """A file of JSON lines: what it was all measured with, then a group of matrices each.

    made_by: everything that the losses depend on. Whatever of the last line a crash left is dropped. Raises ConfigError
    for losses measured with something else, ModelFileError for another kind of file, OutputError where it cannot be
    read or written.
    """

    def __init__(self, path: Path, made_by: Sequence[str]) -> None:
        self._path = path
        self._found: dict[tuple[str, ...], Measured] = {}
        header = json.dumps({"losses_of": hashlib.sha256(json.dumps(list(made_by)).encode()).hexdigest()})
        try:
            self._begin(header)
        except OSError as error:
            raise OutputError(f"{path}: losses cannot be kept there ({error}); give another file.") from None

    def _begin(self, header: str) -> None:
        if not self._path.exists() or self._path.stat().st_size == 0:
            self._path.write_text(header + "\n", "utf-8")
            return
        if self._path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{self._path}: is too large for a file of losses; give another one.")
        whole, newline, rest = self._path.read_bytes().rpartition(b"\n")
        first, *lines = whole.splitlines() or [b""]
        if not first.startswith(b'{"losses_of": "') or not newline:
            raise ModelFileError(f"{self._path}: is no file of losses; give another one.")
        if first != header.encode():
            raise ConfigError(
                f"{self._path}: holds losses of another model, text, calibration, method or list of types; "
                "remove it, or name another file with --mix-losses."
            )
        for number, line in enumerate(lines, start=2):
            measured = self._measured(line, number)
            self._found[measured.names] = measured
        if rest:
            with self._path.open("r+b") as file:
                file.truncate(len(whole) + len(newline))

    def _measured(self, line: bytes, number: int) -> Measured:
        try:
            values = json.loads(line)
            errors = {TensorType[name]: float(error) for name, error in values["errors"].items()}
            names, loss = tuple(map(str, values["names"])), float(values["kl"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
            raise ModelFileError(f"{self._path}: line {number} holds no losses; remove the file.") from None
        if not errors or not all(math.isfinite(value) and value >= 0 for value in (loss, *errors.values())):
            raise ModelFileError(f"{self._path}: line {number} holds no losses; remove the file.")
        return Measured(names, errors, loss)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, names: tuple[str, ...]) -> Measured | None:
        """What is known of these matrices together."""
        return self._found.get(names)

    def keep(self, measured: Measured) -> None:
        """Raises OutputError where it cannot be written."""
        self._found[measured.names] = measured
        errors = {kind.name: error for kind, error in measured.errors.items()}
        line = json.dumps({"names": measured.names, "errors": errors, "kl": measured.loss})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise OutputError(f"{self._path}: losses cannot be kept there ({error}); give another file.") from None
