"""The statements of stores in PostgreSQL. Whatever locks several rows locks them in the order of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from miaotui.answers.row import Row
from miaotui.answers.store import Filter, Order
from miaotui.answers.stores.matching import sound
from miaotui.answers.stores.texts import to_bytes, to_text
from miaotui.answers.stores.where import Where, conditions
from miaotui.answers.stores.words import terms_of

COLUMNS = "kind, tenant, key, payload, created_s, grp, model, text, vector, expires_s, tags, mac"

GET = f"""SELECT {COLUMNS} FROM miaotui_row
    WHERE tenant = $1 AND kind = $2 AND key = $3 AND (expires_s IS NULL OR expires_s > $4)"""  # noqa: S608
PUT = f"""INSERT INTO miaotui_row ({COLUMNS}, used_s, num_bytes, terms, marks)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $5, $13, $14, $15)
    ON CONFLICT (tenant, kind, key) DO UPDATE SET
        payload = excluded.payload, created_s = excluded.created_s, grp = excluded.grp, model = excluded.model,
        text = excluded.text, vector = excluded.vector, expires_s = excluded.expires_s, tags = excluded.tags,
        mac = excluded.mac, used_s = excluded.used_s, num_bytes = excluded.num_bytes, terms = excluded.terms,
        marks = excluded.marks"""  # noqa: S608
REMOVE = "DELETE FROM miaotui_row WHERE tenant = $1 AND kind = $2 AND key = $3"
TOUCH = """UPDATE miaotui_row SET used_s = $4 WHERE tenant = $1 AND kind = $2 AND key = $3 AND used_s < $4"""
SIZES = "SELECT kind, sum(num_bytes)::bigint FROM miaotui_size GROUP BY kind"
SIZE = "SELECT coalesce(sum(num_bytes), 0)::bigint FROM miaotui_size WHERE kind = $1"
EVICT = """
    WITH oldest AS (
        SELECT tenant, kind, key, used_s, num_bytes FROM miaotui_row WHERE kind = $2
        ORDER BY used_s LIMIT 256 FOR UPDATE SKIP LOCKED
    ), doomed AS (
        SELECT tenant, kind, key, sum(num_bytes) OVER (ORDER BY used_s, tenant, key) - num_bytes AS freed_before
        FROM oldest
    )
    DELETE FROM miaotui_row AS r USING doomed AS d
    WHERE r.tenant = d.tenant AND r.kind = d.kind AND r.key = d.key AND d.freed_before < $1::bigint"""
ALONE = "SELECT pg_advisory_xact_lock($1)"
IF_ALONE = "SELECT pg_try_advisory_xact_lock($1)"
NUM_SIZES = "SELECT count(*) FROM (SELECT 1 FROM miaotui_size LIMIT $1) AS first"
FOLD_SIZES = """
    WITH gone AS (DELETE FROM miaotui_size RETURNING kind, tenant, num_rows, num_bytes)
    INSERT INTO miaotui_size
        SELECT kind, tenant, sum(num_rows), sum(num_bytes) FROM gone GROUP BY kind, tenant HAVING sum(num_rows) <> 0"""
CLAIM = """
    INSERT INTO miaotui_claim AS c VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
    ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
        WHERE c.owner = excluded.owner OR c.until <= clock_timestamp()
    RETURNING true"""
RELEASE = "DELETE FROM miaotui_claim WHERE key = $1 AND owner = $2"
DROP_ENDED_CLAIMS = """
    DELETE FROM miaotui_claim WHERE key IN (
        SELECT key FROM miaotui_claim WHERE until < clock_timestamp() - interval '1 minute' FOR UPDATE SKIP LOCKED)"""

_FRAGMENTS = {
    "kind": "kind = {}",
    "key": "key = {}",
    "tag": "marks @> ARRAY[sha256({}::bytea)]",
    "text": "terms @> {}::text[]",
    "group": "grp = {}",
    "expired": "expires_s <= {}",
    "model": "sha256(model) = sha256({}::bytea)",
    "tenant": "tenant = {}",
    "live": "(expires_s IS NULL OR expires_s > {})",
    "older": "(created_s, tenant, key) < ({}, {}, {})",
    "newer": "(created_s, tenant, key) > ({}, {}, {})",
}
_ORDERS: dict[Order, str] = {
    "newest": "created_s DESC, tenant DESC, key DESC",
    "oldest": "created_s, tenant, key",
    "least used": "used_s, tenant, key",
}

Statement = tuple[str, Sequence[Any]]


def _where(which: Filter) -> Where:
    where = Where(_FRAGMENTS, lambda position: f"${position}")
    where.add("kind", which.kind)
    for name, value in conditions(which):
        where.add(name, value)
    return where


def select_page(which: Filter, now_s: float, order: Order, limit: int, behind: Row | None) -> Statement:
    """Rows in order."""
    where = _where(which)
    where.add("live", now_s)
    if behind is not None:
        where.add("older" if order == "newest" else "newer", behind.created_s, to_bytes(behind.tenant), behind.key)
    statement = f"SELECT {COLUMNS} FROM miaotui_row WHERE {where} ORDER BY {_ORDERS[order]} LIMIT {where.mark(limit)}"  # noqa: S608
    return statement, where.values


def delete_some(which: Filter, limit: int) -> Statement:
    """At most so many of the rows that are meant."""
    where = _where(which)
    return (
        f"""WITH doomed AS MATERIALIZED (
            SELECT tenant, kind, key FROM miaotui_row WHERE {where}
            ORDER BY tenant, kind, key LIMIT {where.mark(limit)} FOR UPDATE
        )
        DELETE FROM miaotui_row AS r USING doomed AS d
        WHERE r.tenant = d.tenant AND r.kind = d.kind AND r.key = d.key""",  # noqa: S608
        where.values,
    )


def count(which: Filter) -> Statement:
    """Rows and their bytes; from the sums that are kept, where those say it."""
    where = _where(which)
    if {name for name, _ in conditions(which)} <= {"tenant"}:
        rows, table = "coalesce(sum(num_rows), 0)::bigint", "miaotui_size"
    else:
        rows, table = "count(*)", "miaotui_row"
    return f"SELECT {rows}, coalesce(sum(num_bytes), 0)::bigint FROM {table} WHERE {where}", where.values  # noqa: S608


def row_of(values: Sequence[Any]) -> Row | None:
    """The row in a record of COLUMNS, if it is such as rows are."""
    kind, tenant, key, payload, created_s, group, model, text, vector, expires_s, tags, mac = values
    return sound(
        lambda: Row(
            kind, to_text(tenant), key, payload, created_s, group, to_text(model), to_text(text), vector,
            expires_s, tuple(map(to_text, tags)), mac,
        )
    )  # fmt: skip


def values_of(row: Row) -> tuple[object, ...]:
    """What PUT takes."""
    return (
        row.kind, to_bytes(row.tenant), row.key, row.payload, row.created_s, row.group, to_bytes(row.model),
        to_bytes(row.text), row.vector, row.expires_s, [to_bytes(tag) for tag in row.tags], row.mac, row.num_bytes,
        sorted(terms_of(row.text)), [hashlib.sha256(to_bytes(tag)).digest() for tag in row.tags],
    )  # fmt: skip
