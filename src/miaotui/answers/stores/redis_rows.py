"""How rows lie in Redis: names of keys, fields of hashes, arguments of scripts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from miaotui.answers.row import Kind, Row
from miaotui.answers.store import Filter, is_too_large
from miaotui.answers.stores.matching import sound
from miaotui.answers.stores.texts import pack, to_bytes, to_text, unpack

SCHEMA = "1"
"""Part of every key: rows of another layout are not seen, and end by their times or by eviction."""

FAR_S = 1e12
"""Times beyond this are never, for Redis."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class Keys:
    """Names of keys under a prefix, which several stores with different prefixes on one server do not share."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}:{SCHEMA}:"

    @property
    def tenants(self) -> bytes:
        """The set of tenants that ever had rows."""
        return f"{self._prefix}tenants".encode()

    def base(self, tenant: str) -> bytes:
        """What all keys of a tenant begin with; a cluster goes by what is in braces."""
        return f"{self._prefix}{{{_digest(to_bytes(tenant))}}}:".encode()

    def row(self, kind: Kind, tenant: str, key: bytes) -> bytes:
        """A row's."""
        return self.base(tenant) + f"{kind}:row:".encode() + key

    def index(self, kind: Kind, tenant: str, name: str) -> bytes:
        """An index's, or that of `bytes`."""
        return self.base(tenant) + f"{kind}:{name}".encode()

    def claim(self, key: bytes) -> bytes:
        """A claim's."""
        return f"{self._prefix}claim:".encode() + key


def group_index(group: bytes) -> str:
    """The index of a group's rows."""
    return f"group:{_digest(group)}"


def model_index(model: str) -> str:
    """The index of a model's rows."""
    return f"model:{_digest(to_bytes(model))}"


def tag_index(tag: str) -> str:
    """The index of the rows with a tag."""
    return f"tag:{_digest(to_bytes(tag))}"


def index_of(which: Filter) -> str:
    """The index in order of age that has all rows a filter means, and the fewest others."""
    if which.tag is not None:
        return tag_index(which.tag)
    if which.group:
        return group_index(which.group)
    if which.model is not None:
        return model_index(which.model)
    return "by_age"


def put_arguments(row: Row, max_bytes: int | None) -> list[object]:
    """A row as PUT takes it; only removed where it is larger than its limit by itself."""
    if is_too_large(row, max_bytes):
        return [row.kind, row.key, ""]
    indexes = [model_index(row.model), *(tag_index(tag) for tag in set(row.tags))]
    if row.group:
        indexes.append(group_index(row.group))
    fields = {
        "payload": row.payload, "created_s": repr(row.created_s), "group": row.group, "model": to_bytes(row.model),
        "text": to_bytes(row.text), "vector": row.vector, "tags": pack(row.tags), "mac": row.mac,
        "num_bytes": row.num_bytes,
    }  # fmt: skip
    if row.expires_s is not None:
        fields["expires_s"] = repr(row.expires_s)
    expires, expires_ms = "", ""
    if row.expires_s is not None and row.expires_s < FAR_S:
        expires, expires_ms = repr(row.expires_s), str(max(math.ceil(row.expires_s * 1000), 1))
    flat = [part for field in fields.items() for part in field]
    return [row.kind, row.key, repr(row.created_s), expires, expires_ms, row.num_bytes, len(indexes), *indexes,
            len(flat), *flat]  # fmt: skip


def row_of(kind: Kind, tenant: str, key: bytes, fields: Mapping[bytes, bytes]) -> Row | None:
    """The row in the fields of a hash, if they are such as rows have."""

    def read() -> Row:
        expires = fields.get(b"expires_s")
        try:
            return Row(
                kind, tenant, key, fields[b"payload"], float(fields[b"created_s"]), fields[b"group"],
                to_text(fields[b"model"]), to_text(fields[b"text"]), fields[b"vector"],
                None if expires is None else float(expires), unpack(fields[b"tags"]), fields[b"mac"],
            )  # fmt: skip
        except KeyError as error:
            raise ValueError(f"it has no {error}") from error

    return sound(read) if fields else None
