"""How a server is set up."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and rights of one server.

    model_name: what clients call the model. host_names: names a client may reach it by, beside this machine's own.
    key_digests: SHA-256 of each API key; none: nobody needs one. max_waiting: requests that may wait for a place.
    """

    model_name: str
    host_names: frozenset[str] = frozenset()
    key_digests: tuple[bytes, ...] = ()
    max_waiting: int = 64
    max_body_bytes: int = 10 << 20
    keep_alive_s: float = 5.0
    stalled_s: float = 30.0
    local: frozenset[str] = field(default=frozenset(LOCAL_NAMES))

    def tenant_of(self, key: str) -> str | None:
        """Whom a key stands for; None for one that is not known. Takes as long whatever the key is."""
        digest = digest_of(key)
        known = [hmac.compare_digest(digest, other) for other in self.key_digests]
        return digest.hex()[:16] if any(known) else None


def digest_of(key: str) -> bytes:
    """What is remembered of an API key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
