"""How the schemas of stores came to be: lists of named steps that only grow, so that any older file can be brought up.

A step that was released is never changed. What it once did wrong, a later one puts right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from miaotui.errors import StoreError

Connection = TypeVar("Connection")


@dataclass(frozen=True, slots=True)
class Migration(Generic[Connection]):
    """One step: statements, and then what SQL cannot say (a coroutine function where the driver is asynchronous)."""

    name: str
    statements: tuple[str, ...]
    then: Callable[[Connection], Any] | None = None


def pending(
    migrations: Sequence[Migration[Connection]], applied: Iterable[str], store: str
) -> list[Migration[Connection]]:
    """The steps that are still to be done. Raises StoreError for a schema that is newer than this package."""
    done = set(applied)
    unknown = sorted(done - {migration.name for migration in migrations})
    if unknown:
        raise StoreError(
            f"{store} was written by a newer miaotui (it has the schema step {unknown[-1]!r});"
            " upgrade this one, or name another store"
        )
    return [migration for migration in migrations if migration.name not in done]
