"""What stores keep: one kind of row for answers, decisions, feedback and cases, sealed against changes."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["answer", "decision", "feedback", "case", "observation", "generation"]
"""answer: a question and its answer. decision: why a request was answered as it was. feedback: what a user said of an
answer. case: a pair of questions that must never be taken for each other. observation: whether a near hit was right.
generation: changes when answers of a tenant are taken out or replaced."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a store. `kind`, `tenant` and `key` name it; a row put under the same name replaces it.

    group: 32 bytes; what belongs together. Of answers: all that near hits must have in common, as a SHA-256. Of
        observations: the key of the answer they are about.
    model: what computed it; answers of another model can be invalidated by it.
    text: what is searched; need not be encodable. payload: a JSON object, ASCII only.
    vector: an embedding as `near.index` writes it, or nothing.
    created_s, expires_s: seconds since 1970. tags: names to invalidate by.
    mac: seals all of the above.
    """

    kind: Kind
    tenant: str
    key: bytes
    payload: bytes
    created_s: float
    group: bytes = b""
    model: str = ""
    text: str = ""
    vector: bytes = b""
    expires_s: float | None = None
    tags: tuple[str, ...] = ()
    mac: bytes = b""

    @property
    def num_bytes(self) -> int:
        """What it is charged with, of a store's or the memory's limit."""
        parts = (self.tenant, self.model, self.text, *self.tags)
        return 256 + len(self.payload) + len(self.vector) + sum(len(part) for part in parts)

    @property
    def fields(self) -> dict[str, Any]:
        """The payload, read."""
        value = json.loads(self.payload)
        if not isinstance(value, dict):
            raise ValueError("a row's payload is no object")
        return value

    def sealed(self, secret: bytes) -> Row:
        """The same row with its seal."""
        return replace(self, mac=self._seal(secret))

    def is_genuine(self, secret: bytes) -> bool:
        """Whether the row is as it was sealed."""
        return hmac.compare_digest(self.mac, self._seal(secret))

    def _seal(self, secret: bytes) -> bytes:
        """HMAC-SHA256 over every part, each behind its length: no part can be moved into another."""
        # As stores give them back: whole numbers, too, are floats there.
        times = (repr(float(self.created_s)), "None" if self.expires_s is None else repr(float(self.expires_s)))
        texts = (self.kind, self.tenant, self.model, self.text, *times, *self.tags)
        parts = [part.encode("utf-8", "surrogatepass") for part in texts]
        parts += [self.key, self.group, self.payload, self.vector]
        return hmac.digest(secret, b"".join(len(part).to_bytes(8, "little") + part for part in parts), "sha256")


def payload_of(fields: Mapping[str, Any]) -> bytes:
    """Fields as a payload."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()
