"""What follows WHERE, put together from a store's own fixed fragments; values travel beside it, never in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from miaotui.answers.store import Filter
from miaotui.answers.stores.texts import to_bytes
from miaotui.answers.stores.words import search_terms

_CONDITIONS: tuple[tuple[str, Callable[[Filter], object]], ...] = (
    ("key", lambda which: which.key),
    ("tag", lambda which: None if which.tag is None else to_bytes(which.tag)),
    ("text", lambda which: None if which.text is None else search_terms(which.text) or None),
    ("group", lambda which: which.group),
    ("expired", lambda which: which.expired_s),
    ("model", lambda which: None if which.model is None else to_bytes(which.model)),
    ("tenant", lambda which: None if which.tenant is None else to_bytes(which.tenant)),
)
"""Conditions beside the kind, the more selective ones first."""


def conditions(which: Filter) -> Iterator[tuple[str, object]]:
    """The conditions of a filter and their values. Raises InvalidRequestError for a search that is too long.

    A text without a word is no condition: every row has all of its words.
    """
    for name, value_of in _CONDITIONS:
        value = value_of(which)
        if value is not None:
            yield name, value


class Where:
    """Conditions joined by AND, and their values in order.

    fragments: what each condition is in the store's SQL, with {} where a value goes. mark: from a value's position,
    counted from 1, what stands for it.
    """

    def __init__(self, fragments: Mapping[str, str], mark: Callable[[int], str]) -> None:
        self._fragments = fragments
        self._mark = mark
        self._parts: list[str] = []
        self.values: list[object] = []

    def add(self, name: str, *values: object) -> None:
        """One more condition."""
        self._parts.append(self._fragments[name].format(*map(self.mark, values)))

    def mark(self, value: object) -> str:
        """A place for one more value."""
        self.values.append(value)
        return self._mark(len(self.values))

    def __str__(self) -> str:
        return " AND ".join(self._parts)
