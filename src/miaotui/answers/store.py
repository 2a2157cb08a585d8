"""What every store of answers does; `conformance` in the tests holds each of them to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args, runtime_checkable

from miaotui.answers.row import Kind, Row

Order = Literal["newest", "oldest", "least used"]
Name = tuple[Kind, str, bytes]
"""A row's kind, tenant and key."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_PARTS: Final[Mapping[Kind, int]] = {"answer": 1, "decision": 8, "feedback": 4, "observation": 8}
"""Beside its answers a store may hold an eighth of their bytes of decisions, and so on. Cases have no limit: whoever
called an answer wrong relies on them, and they are short."""


def limits_of(max_bytes: int | None) -> dict[Kind, int]:
    """The most bytes of each kind of row in a store whose answers have that limit."""
    return {} if max_bytes is None else {kind: max_bytes // part for kind, part in _PARTS.items()}


def is_too_large(row: Row, max_bytes: int | None) -> bool:
    """Whether a row is larger by itself than all of its kind may be."""
    return row.num_bytes > limits_of(max_bytes).get(row.kind, row.num_bytes)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are meant: those that agree in everything that is given.

    tenant: None means all of them. text: words that must all occur in the row's text, in any order, without regard
    to case; signs of the store's own search language are words like any others. expired_s: those that expire before.
    """

    kind: Kind
    tenant: str | None = None
    key: bytes | None = None
    group: bytes | None = None
    model: str | None = None
    tag: str | None = None
    text: str | None = None
    expired_s: float | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows there are, and how many bytes they are charged with."""

    num_rows: int
    num_bytes: int


class Store(Protocol):
    """Keeps rows. Every method may be called from several tasks of one event loop at once.

    What `put` has returned from survives the end of the process and of the machine (as far as the server behind it
    promises so). Expired rows are not returned. Beyond `max_bytes` of answers, and what `limits_of` makes of it for the
    other kinds, the least recently used rows go first.

    All raise StoreError where the store cannot be reached, is full, read-only or locked, after a bounded time.
    """

    name: str

    async def open(self) -> None:
        """Connect, and bring the schema up to date. May be called again after a failure."""

    async def close(self) -> None:
        """Let go of everything. Harmless when repeated."""

    async def get(self, name: Name, now_s: float) -> Row | None:
        """One row."""

    async def put(self, rows: Sequence[Row]) -> None:
        """Keep rows, all or none, in place of those of the same name."""

    async def delete(self, which: Filter) -> int:
        """Remove rows; how many there were."""

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        """Rows in order, at most so many, from the one behind `behind` on (not for "least used")."""

    async def touch(self, uses: Mapping[Name, float]) -> None:
        """Note when rows were last used (seconds since 1970). Not as durable as `put`."""

    async def count(self, which: Filter) -> Count:
        """How many rows there are."""


@runtime_checkable
class Claims(Protocol):
    """Lets one of several processes do a piece of work."""

    async def claim(self, key: bytes, owner: str, seconds: float) -> bool:
        """Whether `owner` may do it, from now on for so long; false while another one may."""

    async def release(self, key: bytes, owner: str) -> None:
        """Give a claim back early. Harmless for a claim that is another's or has ended."""
