"""SQLite goes by an index for whatever is asked, in an empty file as well as in a full one: it says so itself."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from answers.rows import NOW_S, row
from miaotui.answers.store import Filter
from miaotui.answers.stores import sqlite_rows
from miaotui.answers.stores import sqlite_sql as sql

GIVEN: dict[str, Any] = {
    "tenant": "somebody", "key": b"k" * 32, "group": b"g" * 32, "model": "m", "tag": "t", "text": "word 字",
    "expired_s": NOW_S,
}  # fmt: skip
INDEX_OF = {
    "key": "row_by_name", "tag": "PRIMARY KEY", "text": "VIRTUAL TABLE", "group": "row_by_group",
    "expired_s": "row_by_end", "model": "row_by_model", "tenant": "row_by_tenant",
}  # fmt: skip
"""What the search begins with, the first that is given."""


@pytest.fixture(params=["empty", "full", "full and analyzed"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    sqlite_rows.migrate(connection, "test")
    if request.param != "empty":
        connection.execute("BEGIN")
        sqlite_rows.put(
            connection,
            (
                row(str(number), tags=("t", str(number % 5)), model="m", group=bytes([number % 9]) * 32,
                    expires_s=NOW_S + number if number % 2 else None, created_s=NOW_S + number % 50)
                for number in range(3000)
            ),
            None,
        )  # fmt: skip
        connection.execute("COMMIT")
    if request.param == "full and analyzed":
        connection.execute("ANALYZE")
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> list[str]:
    return [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def filters() -> Iterator[dict[str, Any]]:
    for number in range(4):
        for names in itertools.combinations(GIVEN, number):
            yield {name: GIVEN[name] for name in names}


def test_a_row_is_found_by_its_name(connection: sqlite3.Connection) -> None:
    (step,) = plan(connection, sql.GET, (b"k", "answer", b"t", NOW_S))
    assert step == "SEARCH answer_row USING INDEX row_by_name (key=? AND kind=? AND tenant=?)"
    for statement, values in ((sql.REMOVE, (b"k", "answer", b"t")), (sql.TOUCH, (1.0, b"k", "answer", b"t"))):
        assert "row_by_name (key=? AND kind=? AND tenant=?)" in plan(connection, statement, values)[0]


@pytest.mark.parametrize("order", ["newest", "oldest", "least used"])
@pytest.mark.parametrize("behind", [None, row()], ids=["first", "next"])
def test_pages_go_by_an_index_for_any_filter(connection: sqlite3.Connection, order: Any, behind: Any) -> None:
    for given in filters():
        if order == "least used":
            behind = None
        statement, values = sql.select_page(Filter("answer", **given), NOW_S, order, 50, behind)
        steps = plan(connection, statement, values)
        assert not [step for step in steps if step.startswith("SCAN answer_row")], (given, steps)
        leaders = [name for name in INDEX_OF if name in given]
        if order == "least used" and leaders in ([], ["tenant"]):
            assert "USING INDEX row_by_use (kind=?)" in steps[0]
        else:
            index = INDEX_OF[leaders[0]] if leaders else "row_by_age"
            assert any(index in step for step in steps), (given, steps)
        sorted_by_index = not leaders or (leaders[0] in ("tenant", "group", "model") and order != "least used")
        if sorted_by_index:  # else all that is found has to be sorted, which is what a selective filter leaves
            assert "USE TEMP B-TREE FOR ORDER BY" not in steps, (given, steps)


def test_deletes_and_counts_go_by_an_index_for_any_filter(connection: sqlite3.Connection) -> None:
    for given in filters():
        which = Filter("answer", **given)
        for statement, values in (sql.delete_some(which, 10), sql.count(which)):
            steps = plan(connection, statement, values)
            bad = [step for step in steps if step.startswith(("SCAN answer_row", "SCAN row_size"))]
            assert not bad, (given, steps)


def test_eviction_and_triggers_go_by_indexes(connection: sqlite3.Connection) -> None:
    assert "row_by_use (kind=?)" in plan(connection, sql.LEAST_USED, ("answer",))[0]
    assert plan(connection, sql.SIZE, ("answer",)) == ["SEARCH row_size USING PRIMARY KEY (kind=?)"]
    assert "PRIMARY KEY (rowid=?)" in plan(connection, sql.REMOVE_ID, (1,))[0].upper().replace("ROWID", "rowid")
    for statement in (
        "DELETE FROM row_tag WHERE id = ?",
        sql.DROP_ENDED_CLAIMS,
        "DELETE FROM row_word WHERE rowid = ?",
    ):
        steps = plan(connection, statement, (1,))
        assert any("USING" in step or "VIRTUAL TABLE INDEX" in step for step in steps), steps
