"""The text that a command is given as a file."""

from __future__ import annotations

import sys
from pathlib import Path

from miaotui.errors import InvalidRequestError

MAX_BYTES = 256 << 20


def read_text(name: str | Path) -> str:
    """The whole text; - is standard input.

    Raises InvalidRequestError when it cannot be read, is not UTF-8, or has more than MAX_BYTES.
    """
    try:
        if str(name) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"cannot read {str(name)!r}: {error}; give a text file, or - for standard input."
        ) from None
    if len(content) > MAX_BYTES:
        raise InvalidRequestError(f"{str(name)!r} is longer than {MAX_BYTES >> 20} MiB; give a part of it.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{str(name)!r} is not UTF-8 text (byte {error.start}); convert it first.") from None
