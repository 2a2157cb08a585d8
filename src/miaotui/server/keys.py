"""API keys: what is remembered of each, and how they are written down.

A line of the file is a key, or `sha256:` and the hexadecimal SHA-256 of one, then, as wanted, a name, `rpm=60` and
`tpm=10000` (requests and tokens per minute), and `floor=0.99`: the share of its answers that must be as good as the
model's own, which rules out paths that promise less (near hits, a small model). Lines that begin with # say nothing.
Keys from `new_key` hold 256 random bits, so their hashes cannot be turned back; a key that a person made up can be
guessed from its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from miaotui.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
_LIMITS = {"rpm": "requests_per_min", "tpm": "tokens_per_min"}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may ask, and how much; None: as much as the server allows everybody. quality_floor: see above."""

    digest: bytes
    name: str | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    quality_floor: float = 0.0

    @property
    def tenant(self) -> str:
        """Whom the key stands for, wherever that is kept or logged."""
        return self.digest.hex()[:16]


def digest_of(key: str) -> bytes:
    """What is remembered of an API key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def find_key(keys: Iterable[ApiKey], key: str) -> ApiKey | None:
    """The key that this is; None for one that is not known. Takes as long whatever the key is."""
    digest, found = digest_of(key), None
    for known in keys:
        if hmac.compare_digest(digest, known.digest):
            found = known
    return found


def new_key() -> str:
    """A key nobody can guess."""
    return "mt-" + secrets.token_urlsafe(32)


def hashed_line(key: str, name: str | None = None) -> str:
    """The line that stands for a key in the file. Raises ConfigError for a name that cannot stand there."""
    if name is not None and not _is_name(name):
        raise ConfigError(f"--name is {name[:80]!r}; a name has 1 to 64 letters, digits, and any of . _ - @")
    return f"sha256:{digest_of(key).hex()}" + (f" {name}" if name else "")


def parse_keys(lines: Iterable[str], where: str) -> tuple[ApiKey, ...]:
    """The keys on these lines. Raises ConfigError for an unusable line: its number, never what it holds."""
    keys = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            keys.append(_parse(words, f"{where}, line {number}"))
    return tuple(keys)


def read_keys_file(path: Path, source: str) -> tuple[ApiKey, ...]:
    """The keys in a file; it must hold some. Raises ConfigError where it cannot be read or used."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{source} is {str(path)!r}, which cannot be read: {reason}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{source} is {str(path)!r}, which is larger than {MAX_FILE_BYTES} bytes")
    keys = parse_keys(text.splitlines(), str(path))
    if not keys:
        raise ConfigError(f"{source} is {str(path)!r}, which holds no key; `miaotui config new-key` makes one")
    return keys


def _parse(words: list[str], where: str) -> ApiKey:
    key, *rest = words
    if key.startswith("sha256:"):
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", key):
            raise ConfigError(f"{where}: behind sha256: there must be 64 hexadecimal digits")
        digest = bytes.fromhex(key[7:])
    else:
        digest = digest_of(key)
    name: str | None = None
    limits: dict[str, int] = {}
    floor = 0.0
    for word in rest:
        limit, equals, value = word.partition("=")
        if equals and limit in _LIMITS and re.fullmatch(r"[1-9][0-9]{0,11}", value):
            limits[_LIMITS[limit]] = int(value)
        elif limit == "floor" and re.fullmatch(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", value):
            floor = float(value)
        elif not equals and name is None and _is_name(word):
            name = word
        else:
            raise ConfigError(
                f"{where}: behind the key there may be a name, rpm=NUMBER, tpm=NUMBER and floor=0 to 1, nothing else"
            )
    return ApiKey(digest, name, limits.get("requests_per_min"), limits.get("tokens_per_min"), floor)


def _is_name(word: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", word) is not None
