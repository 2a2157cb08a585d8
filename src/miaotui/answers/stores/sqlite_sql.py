"""The statements of stores in SQLite, and which index each one goes by (tests ask SQLite whether it agrees)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from miaotui.answers.row import Row
from miaotui.answers.store import Filter, Order
from miaotui.answers.stores.matching import sound
from miaotui.answers.stores.texts import pack, to_bytes, to_text, unpack
from miaotui.answers.stores.where import Where, conditions

COLUMNS = "kind, tenant, key, payload, created_s, grp, model, text, vector, expires_s, tags, mac"

GET = f"""SELECT {COLUMNS} FROM answer_row
    WHERE key = ? AND kind = ? AND tenant = ? AND (expires_s IS NULL OR expires_s > ?)"""  # noqa: S608
REMOVE = "DELETE FROM answer_row WHERE key = ? AND kind = ? AND tenant = ?"
INSERT = f"INSERT INTO answer_row ({COLUMNS}, used_s, num_bytes) VALUES ({', '.join('?' * 14)})"  # noqa: S608
INSERT_TAG = "INSERT OR IGNORE INTO row_tag (tag, id) VALUES (?, ?)"
INSERT_WORDS = "INSERT INTO row_word (rowid, terms) VALUES (?, ?)"
TOUCH = "UPDATE answer_row SET used_s = max(used_s, ?) WHERE key = ? AND kind = ? AND tenant = ?"
SIZE = "SELECT coalesce(sum(num_bytes), 0) FROM row_size WHERE kind = ?"
LEAST_USED = "SELECT id, num_bytes FROM answer_row WHERE kind = ? ORDER BY used_s LIMIT 64"
REMOVE_ID = "DELETE FROM answer_row WHERE id = ?"
DROP_ENDED_CLAIMS = "DELETE FROM claim WHERE until_s <= ?"
CLAIM = """INSERT INTO claim (key, owner, until_s) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET until_s = excluded.until_s WHERE owner = excluded.owner RETURNING 1"""
RELEASE = "DELETE FROM claim WHERE key = ? AND owner = ?"

_FRAGMENTS = {
    "kind": "kind = {}",
    "key": "key = {}",
    "tag": "id IN (SELECT id FROM row_tag WHERE tag = {})",
    "text": "id IN (SELECT rowid FROM row_word WHERE row_word MATCH {})",
    "group": "grp = {}",
    "expired": "expires_s <= {}",
    "model": "model = {}",
    "tenant": "tenant = {}",
    "live": "(+expires_s IS NULL OR +expires_s > {})",
    "older": "created_s <= {} AND (created_s, tenant, key) < ({}, {}, {})",
    "newer": "created_s >= {} AND (created_s, tenant, key) > ({}, {}, {})",
}
# The condition that leaves the fewest rows decides, so that the choice is the same for an empty file and for a million
# rows. Rows with a tag or with words are found by their ids.
_INDEXES = {
    "key": "INDEXED BY row_by_name",
    "tag": "NOT INDEXED",
    "text": "NOT INDEXED",
    "group": "INDEXED BY row_by_group",
    "expired": "INDEXED BY row_by_end",
    "model": "INDEXED BY row_by_model",
    "tenant": "INDEXED BY row_by_tenant",
}
_ORDERS: dict[Order, str] = {
    "newest": "created_s DESC, tenant DESC, key DESC",
    "oldest": "created_s, tenant, key",
    "least used": "used_s, id",
}

Statement = tuple[str, Sequence[Any]]


def _from(which: Filter, order: Order) -> tuple[str, Where]:
    """The table with the index to go by, and the conditions."""
    where = Where(_FRAGMENTS, lambda _: "?")
    where.add("kind", which.kind)
    wanted = dict(conditions(which))
    for name, value in wanted.items():
        if name == "text":
            value = " AND ".join(f'"{term}"' for term in cast("list[str]", value))
        where.add(name, value)
    if order == "least used" and not wanted.keys() - {"tenant"}:
        index = "INDEXED BY row_by_use"
    else:
        index = next((_INDEXES[name] for name in wanted), "INDEXED BY row_by_age")
    return f"answer_row {index}", where


def select_page(which: Filter, now_s: float, order: Order, limit: int, behind: Row | None) -> Statement:
    """Rows in order."""
    table, where = _from(which, order)
    where.add("live", now_s)
    if behind is not None:
        at = behind.created_s
        where.add("older" if order == "newest" else "newer", at, at, to_bytes(behind.tenant), behind.key)
    statement = f"SELECT {COLUMNS} FROM {table} WHERE {where} ORDER BY {_ORDERS[order]} LIMIT {where.mark(limit)}"  # noqa: S608
    return statement, where.values


def delete_some(which: Filter, limit: int) -> Statement:
    """At most so many of the rows that are meant."""
    table, where = _from(which, "oldest")
    statement = f"DELETE FROM answer_row WHERE id IN (SELECT id FROM {table} WHERE {where} LIMIT {where.mark(limit)})"  # noqa: S608
    return statement, where.values


def count(which: Filter) -> Statement:
    """Rows and their bytes; from the sums that are kept, where those say it."""
    table, where = _from(which, "oldest")
    rows = "count(*)"
    if {name for name, _ in conditions(which)} <= {"tenant"}:
        table, rows = "row_size", "coalesce(sum(num_rows), 0)"
    return f"SELECT {rows}, coalesce(sum(num_bytes), 0) FROM {table} WHERE {where}", where.values  # noqa: S608


def row_of(values: Sequence[Any]) -> Row | None:
    """The row in the values of COLUMNS, if they are such as rows have."""
    kind, tenant, key, payload, created_s, group, model, text, vector, expires_s, tags, mac = values
    return sound(
        lambda: Row(
            kind, to_text(tenant), key, payload, created_s, group, to_text(model), to_text(text), vector,
            expires_s, unpack(tags), mac,
        )
    )  # fmt: skip


def values_of(row: Row) -> tuple[object, ...]:
    """What INSERT takes."""
    return (
        row.kind, to_bytes(row.tenant), row.key, row.payload, row.created_s, row.group, to_bytes(row.model),
        to_bytes(row.text), row.vector, row.expires_s, pack(row.tags), row.mac, row.created_s, row.num_bytes,
    )  # fmt: skip
