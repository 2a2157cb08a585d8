"""The stores that every test of the conformance suite is run with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from answers.conftest import OpenStore, empty

KINDS = ["memory", "sqlite", "postgres", "redis", "redis-cluster"]

MakeStore = Callable[..., Awaitable[Any]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    return str(request.param)


@pytest.fixture
async def make_store(kind: str, url_of: Callable[[str], str], opening: OpenStore) -> AsyncIterator[MakeStore]:
    """Call it with options for an open store; the first one is empty, all are over the same rows."""
    url = url_of(kind)
    made: list[Any] = []

    async def make(**options: Any) -> Any:
        store = await opening(url, **options)
        if not made:
            await empty(store)
        made.append(store)
        return store

    return make


@pytest.fixture
async def store(make_store: MakeStore) -> Any:
    """An open, empty store."""
    return await make_store()
