"""The text that a command is given as a file."""

from __future__ import annotations

import sys
from pathlib import Path

from miaotui.errors import InvalidRequestError


def read_text(name: str | Path) -> str:
    """The whole text; - is standard input. Raises InvalidRequestError when it cannot be read or is not UTF-8."""
    try:
        content = sys.stdin.buffer.read() if str(name) == "-" else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidRequestError(
            f"cannot read {str(name)!r}: {error}; give a text file, or - for standard input."
        ) from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{str(name)!r} is not UTF-8 text (byte {error.start}); convert it first.") from None
