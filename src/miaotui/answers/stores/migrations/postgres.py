"""The schema of stores in PostgreSQL. Strings are kept as bytes (see `texts`)."""

from __future__ import annotations

from typing import Any

from miaotui.answers.stores.migrations import Migration
from miaotui.answers.stores.texts import to_text
from miaotui.answers.stores.words import terms_of

NUM_PARTITIONS = 16

# What is indexed must be short, and names of models and tags need not be: they are indexed by their digests.
_ROWS = (
    """CREATE TABLE miaotui_row (
        kind text COLLATE "C" NOT NULL,
        tenant bytea NOT NULL,
        key bytea NOT NULL,
        created_s double precision NOT NULL,
        expires_s double precision,
        used_s double precision NOT NULL,
        num_bytes bigint NOT NULL,
        grp bytea NOT NULL,
        model bytea NOT NULL,
        tags bytea[] NOT NULL,
        marks bytea[] NOT NULL,
        mac bytea NOT NULL,
        vector bytea NOT NULL,
        text bytea NOT NULL,
        payload bytea NOT NULL,
        PRIMARY KEY (tenant, kind, key)
    ) PARTITION BY HASH (tenant)""",
    *(
        f"CREATE TABLE miaotui_row_{number:02d} PARTITION OF miaotui_row"
        f" FOR VALUES WITH (MODULUS {NUM_PARTITIONS}, REMAINDER {number})"
        for number in range(NUM_PARTITIONS)
    ),
    "CREATE INDEX miaotui_row_by_age ON miaotui_row (kind, created_s)",
    "CREATE INDEX miaotui_row_by_tenant ON miaotui_row (kind, tenant, created_s)",
    "CREATE INDEX miaotui_row_by_group ON miaotui_row (kind, grp, created_s)",
    "CREATE INDEX miaotui_row_by_model ON miaotui_row (kind, sha256(model), created_s)",
    "CREATE INDEX miaotui_row_by_use ON miaotui_row (kind, used_s)",
    "CREATE INDEX miaotui_row_by_end ON miaotui_row (kind, expires_s) WHERE expires_s IS NOT NULL",
    "CREATE INDEX miaotui_row_by_tag ON miaotui_row USING gin (marks)",
)

# Short ASCII words that Python has found; see `words`.
_SEARCH = (
    "ALTER TABLE miaotui_row ADD COLUMN terms text[] NOT NULL DEFAULT '{}'",
    "CREATE INDEX miaotui_row_by_term ON miaotui_row USING gin (terms)",
)

# Every statement appends what it has added or taken away, so that none waits for another to count; the sums are
# folded now and then. Triggers over all rows of a statement see replaced rows, too, which no query could.
_SIZES = (
    """CREATE TABLE miaotui_size (
        kind text COLLATE "C" NOT NULL,
        tenant bytea NOT NULL,
        num_rows bigint NOT NULL,
        num_bytes bigint NOT NULL
    )""",
    """INSERT INTO miaotui_size
        SELECT kind, tenant, count(*), sum(num_bytes) FROM miaotui_row GROUP BY kind, tenant""",
    """CREATE FUNCTION miaotui_rows_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO miaotui_size
            SELECT kind, tenant, count(*), sum(num_bytes) FROM come GROUP BY kind, tenant;
        RETURN NULL;
    END $$""",
    """CREATE FUNCTION miaotui_rows_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO miaotui_size
            SELECT kind, tenant, -count(*), -sum(num_bytes) FROM gone GROUP BY kind, tenant;
        RETURN NULL;
    END $$""",
    """CREATE FUNCTION miaotui_rows_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO miaotui_size
            SELECT kind, tenant, sum(n), sum(b) FROM (
                SELECT kind, tenant, 1 AS n, num_bytes AS b FROM come
                UNION ALL SELECT kind, tenant, -1, -num_bytes FROM gone
            ) AS changes
            GROUP BY kind, tenant HAVING sum(n) <> 0 OR sum(b) <> 0;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER miaotui_rows_come AFTER INSERT ON miaotui_row
        REFERENCING NEW TABLE AS come FOR EACH STATEMENT EXECUTE FUNCTION miaotui_rows_come()""",
    """CREATE TRIGGER miaotui_rows_go AFTER DELETE ON miaotui_row
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION miaotui_rows_go()""",
    """CREATE TRIGGER miaotui_rows_change AFTER UPDATE ON miaotui_row
        REFERENCING OLD TABLE AS gone NEW TABLE AS come
        FOR EACH STATEMENT EXECUTE FUNCTION miaotui_rows_change()""",
)

# Not logged: after a crash of the server all claims have ended, which costs a computation at most.
_CLAIMS = (
    """CREATE UNLOGGED TABLE miaotui_claim (
        key bytea PRIMARY KEY,
        owner bytea NOT NULL,
        until timestamptz NOT NULL
    )""",
)


async def _find_words(connection: Any) -> None:
    rows = "SELECT tenant, kind, key, text FROM miaotui_row"
    set_terms = "UPDATE miaotui_row SET terms = $4 WHERE tenant = $1 AND kind = $2 AND key = $3"
    async for tenant, kind, key, text in connection.cursor(rows):
        await connection.execute(set_terms, tenant, kind, key, sorted(terms_of(to_text(text))))


MIGRATIONS: tuple[Migration[Any], ...] = (
    Migration("0001 rows", _ROWS),
    Migration("0002 search", _SEARCH, _find_words),
    Migration("0003 sizes", _SIZES),
    Migration("0004 claims", _CLAIMS),
)
"""In order. Only ever appended to; tests/answers/test_migrations.py opens a store of every length."""
