"""The schema of stores in SQLite. Strings are kept as bytes (see `texts`)."""

from __future__ import annotations

import sqlite3

from miaotui.answers.stores.migrations import Migration
from miaotui.answers.stores.texts import to_text
from miaotui.answers.stores.words import terms_of

_ROWS = (
    """CREATE TABLE answer_row (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        tenant BLOB NOT NULL,
        key BLOB NOT NULL,
        created_s REAL NOT NULL,
        expires_s REAL,
        used_s REAL NOT NULL,
        num_bytes INTEGER NOT NULL,
        grp BLOB NOT NULL,
        model BLOB NOT NULL,
        tags BLOB NOT NULL,
        mac BLOB NOT NULL,
        vector BLOB NOT NULL,
        text BLOB NOT NULL,
        payload BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX row_by_name ON answer_row (key, kind, tenant)",
    "CREATE INDEX row_by_age ON answer_row (kind, created_s)",
    "CREATE INDEX row_by_tenant ON answer_row (kind, tenant, created_s)",
    "CREATE INDEX row_by_group ON answer_row (kind, grp, created_s)",
    "CREATE INDEX row_by_model ON answer_row (kind, model, created_s)",
    "CREATE INDEX row_by_use ON answer_row (kind, used_s)",
    "CREATE INDEX row_by_end ON answer_row (kind, expires_s) WHERE expires_s IS NOT NULL",
    "CREATE TABLE row_tag (tag BLOB NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID",
    "CREATE INDEX row_tag_by_id ON row_tag (id)",
    """CREATE TRIGGER row_tags_end AFTER DELETE ON answer_row BEGIN
        DELETE FROM row_tag WHERE id = old.id;
    END""",
)

# Words come ready from Python; the index keeps which rows have them and not where: smaller, and all that is asked.
_SEARCH = (
    """CREATE VIRTUAL TABLE row_word USING fts5(
        terms, detail = 'none', columnsize = 0, tokenize = "ascii tokenchars '_'"
    )""",
    """CREATE TRIGGER row_words_end AFTER DELETE ON answer_row BEGIN
        DELETE FROM row_word WHERE rowid = old.id;
    END""",
)

_SIZES = (
    """CREATE TABLE row_size (
        kind TEXT NOT NULL,
        tenant BLOB NOT NULL,
        num_rows INTEGER NOT NULL,
        num_bytes INTEGER NOT NULL,
        PRIMARY KEY (kind, tenant)
    ) WITHOUT ROWID""",
    """INSERT INTO row_size
        SELECT kind, tenant, count(*), sum(num_bytes) FROM answer_row GROUP BY kind, tenant""",
    """CREATE TRIGGER row_size_grows AFTER INSERT ON answer_row BEGIN
        INSERT INTO row_size VALUES (new.kind, new.tenant, 1, new.num_bytes)
        ON CONFLICT (kind, tenant)
        DO UPDATE SET num_rows = num_rows + 1, num_bytes = num_bytes + excluded.num_bytes;
    END""",
    """CREATE TRIGGER row_size_shrinks AFTER DELETE ON answer_row BEGIN
        UPDATE row_size SET num_rows = num_rows - 1, num_bytes = num_bytes - old.num_bytes
        WHERE kind = old.kind AND tenant = old.tenant;
    END""",
)

_CLAIMS = (
    """CREATE TABLE claim (
        key BLOB PRIMARY KEY,
        owner BLOB NOT NULL,
        until_s REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX claim_by_end ON claim (until_s)",
)


def _find_words(connection: sqlite3.Connection) -> None:
    for row_id, text in connection.execute("SELECT id, text FROM answer_row"):
        if terms := terms_of(to_text(text)):
            connection.execute("INSERT INTO row_word (rowid, terms) VALUES (?, ?)", (row_id, " ".join(terms)))


MIGRATIONS: tuple[Migration[sqlite3.Connection], ...] = (
    Migration("0001 rows", _ROWS),
    Migration("0002 search", _SEARCH, _find_words),
    Migration("0003 sizes", _SIZES),
    Migration("0004 claims", _CLAIMS),
)
"""In order. Only ever appended to; tests/answers/test_migrations.py opens a store of every length."""
