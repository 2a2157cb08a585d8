"""Whether a row is meant by a filter, and which row comes first: what databases are asked to do, said in Python."""

from __future__ import annotations

import logging
from collections.abc import Callable

from miaotui.answers.row import Row
from miaotui.answers.store import Filter, Order
from miaotui.answers.stores.texts import to_bytes
from miaotui.answers.stores.words import search_terms, terms_of

log = logging.getLogger(__name__)

_TYPES = (str, bytes, bytes, bytes, bytes, bytes)


def is_live(row: Row, now_s: float) -> bool:
    """Whether a row has not expired."""
    return row.expires_s is None or row.expires_s > now_s


class Matcher:
    """A filter, read once for many rows. Raises InvalidRequestError for a search that is too long."""

    def __init__(self, which: Filter) -> None:
        self._which = which
        self._terms = frozenset(search_terms(which.text)) if which.text is not None else frozenset()

    def __call__(self, row: Row) -> bool:
        """Whether the row is meant."""
        which = self._which
        return (
            row.kind == which.kind
            and (which.tenant is None or row.tenant == which.tenant)
            and (which.key is None or row.key == which.key)
            and (which.group is None or row.group == which.group)
            and (which.model is None or row.model == which.model)
            and (which.tag is None or which.tag in row.tags)
            and (which.expired_s is None or not is_live(row, which.expired_s))
            and (not self._terms or self._terms <= terms_of(row.text))
        )


def place(row: Row) -> tuple[float, bytes, bytes]:
    """Where a row stands in the order of age; no two of a kind stand at the same place."""
    return row.created_s, to_bytes(row.tenant), row.key


def check_page(order: Order, limit: int, behind: Row | None) -> None:
    """Raise ValueError for a page that cannot be."""
    if limit < 0:
        raise ValueError(f"a page has no {limit} rows")
    if behind is not None and order == "least used":
        raise ValueError("what is behind a row is not known in the order of use, which changes all the time")


def sound(read: Callable[[], Row]) -> Row | None:
    """The row that `read` makes of what a store has; nothing where somebody has put there what no row can be."""
    try:
        row = read()
        for value, kind in zip((row.kind, row.key, row.payload, row.group, row.vector, row.mac), _TYPES, strict=True):
            if not isinstance(value, kind):
                raise TypeError(f"it has {type(value).__name__} for {kind.__name__}")
        if not isinstance(row.created_s, float) or not isinstance(row.expires_s, float | None):
            raise TypeError("its times are no numbers")
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("a row of the answer store is damaged and is not used: %s", error)
        return None
    return row
