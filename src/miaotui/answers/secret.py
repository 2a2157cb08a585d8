"""What rows are sealed with."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from miaotui.errors import ConfigError

FILE = "answers.key"
_BYTES = 32
_LEAST_CHARACTERS = 16


def secret_of(given: str | None, home: Path) -> bytes:
    """32 bytes: of the given text, or of a file in `home` that only its owner can read, made where there is none.

    Raises ConfigError for a text that could be guessed, or where the file cannot be used.
    """
    if given is not None:
        if len(given) < _LEAST_CHARACTERS:
            raise ConfigError(f"MIAOTUI_CACHE_SECRET must have at least {_LEAST_CHARACTERS} characters.")
        return hashlib.sha256(b"miaotui answers\0" + given.encode("utf-8", "surrogatepass")).digest()
    path = home / FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        _make(path)
        found = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}; make the folder writable.") from None
    if len(found) != _BYTES:
        raise ConfigError(f"{path} must hold {_BYTES} bytes; remove it, and kept answers count as not there.")
    return found


def _make(path: Path) -> None:
    """Write a fresh secret unless there is one; of several processes, one wins, and all read what it wrote."""
    if path.exists():
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink()
