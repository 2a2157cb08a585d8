"""How settings are read: each reader takes what a flag, an environment variable or a TOML key holds.

All raise ValueError, whose message says what the value must be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

_SIZE_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def integer(low: int, high: int) -> Callable[[object], int]:
    """Reads a whole number of that range."""

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return parse


def seconds(low: float, high: float) -> Callable[[object], float]:
    """Reads a time in seconds of that range."""
    return real(low, high, "seconds")


def real(low: float, high: float, what: str = "a number") -> Callable[[object], float]:
    """Reads a number of that range, written without an exponent."""

    def parse(value: object) -> float:
        number = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number = float(min(max(value, -1), 1e12))
        elif isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", value):
            number = float(value)
        if not low <= number <= high:  # false for NaN, too
            raise ValueError(f"{what}, from {low:g} to {high:g}")
        return number

    return parse


def choice(*options: str) -> Callable[[object], str]:
    """Reads one of these words."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError(f"one of {', '.join(options)}")
        return value

    return parse


def text(value: object) -> str:
    """A text that is not empty, without the blanks around it."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a text that is not empty")
    return value.strip()


def texts(value: object) -> tuple[str, ...]:
    """A list of texts, or one text with commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError("a list of texts, or texts with commas between them")
    return tuple(part.strip() for part in parts if part.strip())


def folder(value: object) -> Path:
    """The path of a folder, which need not exist."""
    path = file(value)
    if path.exists() and not path.is_dir():
        raise ValueError("the path of a folder")
    return path


def file(value: object) -> Path:
    """A path, which need not exist."""
    return Path(text(str(value) if isinstance(value, Path) else value)).expanduser().absolute()


def truth(value: object) -> bool:
    """Yes or no."""
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError("1 or 0 (also true, false, yes, no, on, off)")
    return words[str(value).lower()]


def parse_bytes(value: object) -> int:
    """Bytes of `268435456`, `"256MiB"` or `"256M"`; units are powers of 1024.

    Raises:
        ValueError: the value is no such size, or is not positive.
    """
    written = str(value).strip().lower() if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    digits = written.rstrip("kmgtib")
    unit = written[len(digits) :].removesuffix("ib").removesuffix("b") if len(written) > len(digits) else ""
    try:
        size = int(float(digits) * _SIZE_UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if not 0 < size < 2**63:
        raise ValueError("a size such as 268435456, 256MiB or 1.5G")
    return size


def limit_bytes(value: object) -> int:
    """The same, or 0."""
    return 0 if value == 0 or str(value).strip() == "0" else parse_bytes(value)
