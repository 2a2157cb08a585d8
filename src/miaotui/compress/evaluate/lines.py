"""Lines of a file that a user, or somebody they had it from, has written: bounded, and complained about by number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miaotui.errors import TaskFileError, brief

MAX_BYTES = 64 << 20
MAX_LINE_CHARACTERS = 4 << 20


def read_text(path: Path, what: str = "tasks or prompts") -> str:
    """The file's text. Raises TaskFileError for what cannot be read, is too long, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise TaskFileError(f"{path}: is longer than {MAX_BYTES >> 20} MiB; cut it into several files.")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, TaskFileError):
            raise
        if isinstance(error, UnicodeDecodeError):
            raise TaskFileError(f"{path}: is not UTF-8 text (byte {error.start}); convert it first.") from None
        reason = getattr(error, "strerror", None) or error
        raise TaskFileError(f"cannot read {str(path)!r:.200}: {reason}; give a file of {what}.") from None


class LineReader:
    """What stands in the lines of one file; every complaint is a TaskFileError with line and field."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most

    def error(self, number: int, problem: str) -> TaskFileError:
        """What to raise about a line."""
        return TaskFileError(f"{self._path} line {number}: {problem}")

    def lines(self, text: str) -> Iterator[tuple[int, str]]:
        """Number and content of each line that is not blank, and one at least."""
        count = 0
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            count += 1
            if count > self._most:
                raise self.error(number, f"there are more than {self._most} lines; cut the file into several.")
            if len(line) > MAX_LINE_CHARACTERS:
                raise self.error(number, f"the line has {len(line)} characters, more than {MAX_LINE_CHARACTERS}.")
            yield number, line
        if not count:
            raise TaskFileError(f"{self._path}: is empty; give one object or prompt a line.")

    def objects(self, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and JSON object of each line that is not blank."""
        for number, line in self.lines(text):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self.error(number, f"is not JSON ({error!s:.100}); write one object a line.") from None
            if not isinstance(fields, dict):
                raise self.error(number, f"must be an object, not {brief(fields)}.")
            yield number, fields

    def text(self, number: int, value: object, field: str, most: int) -> str:
        """A field that must be text, not blank, and no longer than so many characters."""
        if value is None:
            raise self.error(number, f'there is no "{field}".')
        if not isinstance(value, str):
            raise self.error(number, f'"{field}" must be text, not {brief(value)}.')
        if not value.strip():
            raise self.error(number, f'"{field}" is empty.')
        if len(value) > most:
            raise self.error(number, f'"{field}" has {len(value)} characters, more than {most}.')
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(number, f'"{field}" holds half a surrogate pair; write it as UTF-8.') from None
        return value
