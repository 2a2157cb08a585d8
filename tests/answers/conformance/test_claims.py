"""Of several owners one may do a piece of work, until it is done or the time is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from answers.rows import HOSTILE

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres", "redis", "redis-cluster"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_one_of_many_owners_gets_the_claim(store: Any) -> None:
    async def ask(number: int) -> int | None:
        return number if await store.claim(b"work", f"owner {number}", 60) else None

    winners = [number for number in await asyncio.gather(*map(ask, range(50))) if number is not None]
    assert len(winners) == 1
    await store.release(b"work", f"owner {winners[0]}")
    assert await store.claim(b"work", "another", 60)


async def test_a_claim_is_its_owners_who_may_prolong_it(store: Any) -> None:
    assert await store.claim(b"work", "a", 60)
    assert await store.claim(b"work", "a", 60)
    assert not await store.claim(b"work", "b", 60)
    await store.release(b"work", "b")
    assert not await store.claim(b"work", "b", 60)
    assert await store.claim(b"other work", "b", 60)
    await store.release(b"work", "a")
    await store.release(b"work", "a")
    assert await store.claim(b"work", "b", 60)


async def test_a_claim_ends_by_itself(store: Any) -> None:
    assert await store.claim(b"work", "a", 0.05)
    attempts = [False]
    for _ in range(2000):
        attempts.append(await store.claim(b"work", "b", 60))
        if attempts[-1]:
            break
        await asyncio.sleep(0.005)
    assert attempts[-1]
    assert not await store.claim(b"work", "a", 60)


async def test_ended_claims_do_not_gather(store: Any) -> None:
    for number in range(600):
        assert await store.claim(str(number).encode(), "a", 0.001)
    assert await store.claim(b"0", "b", 60)


@pytest.mark.parametrize("owner", HOSTILE.values(), ids=HOSTILE)
async def test_owners_and_keys_may_be_anything(store: Any, owner: str) -> None:
    key = b"\0key\xff' --" + owner.encode("utf-8", "surrogatepass")
    assert await store.claim(key, owner, 60)
    assert await store.claim(key, owner, 60)
    assert not await store.claim(key, owner + "!", 60)
    await store.release(key, owner)
    assert await store.claim(key, owner + "!", 60)
