"""What is put is found as it was, whatever is in it; what is replaced or deleted is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from answers.conformance.conftest import MakeStore
from answers.rows import HOSTILE, NOW_S, SECRET, name, name_of, row
from miaotui.answers.row import payload_of
from miaotui.answers.store import Count, Filter
from miaotui.errors import StoreError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_strings_come_back_as_they_were_and_the_seal_holds(store: Any, text: str) -> None:
    kept = row(text, tenant=text, model=text, text=text, tags=(text, "another"), payload=payload_of({text: text}))
    await store.put([kept])
    assert await store.get(name(kept), NOW_S) == kept
    (listed,) = await store.rows(Filter("answer", tenant=text, model=text, tag=text), now_s=NOW_S)
    assert listed == kept
    assert listed.is_genuine(SECRET)
    assert await store.delete(Filter("answer", tenant=text, tag=text)) == 1
    assert await store.get(name(kept), NOW_S) is None


async def test_names_that_differ_in_one_sign_are_different_rows(store: Any) -> None:
    tenants = [*HOSTILE.values(), "nu", "before", "Before\0after", "😀", "quotes ", " quotes"]
    await store.put([row("same", tenant=tenant, text=repr(tenant)) for tenant in tenants])
    for tenant in tenants:
        found = await store.get(("answer", tenant, name_of("same")), NOW_S)
        assert found is not None
        assert found.text == repr(tenant)
    assert (await store.count(Filter("answer"))).num_rows == len(tenants)


async def test_a_megabyte_comes_back_whole(store: Any) -> None:
    text = "".join(f"{number} 字' \0" for number in range(1 << 17))
    kept = row(
        "large", text=text, model=text, tags=(text,), payload=payload_of({"answer": text}), vector=bytes(1 << 20)
    )
    await store.put([kept])
    assert await store.get(name(kept), NOW_S) == kept
    assert await store.rows(Filter("answer", text="131071 字", tag=text, model=text), now_s=NOW_S) == [kept]


async def test_every_field_comes_back_exactly(store: Any) -> None:
    kept = row(
        "exact", kind="observation", group=bytes(range(32)), vector=bytes(range(256)), created_s=0.1 + 0.2 + 1e9,
        expires_s=NOW_S + 1e6 + 1 / 3, tags=("b", "a", "b"),
    )  # fmt: skip
    await store.put([kept])
    found = await store.get(name(kept), NOW_S)
    assert found == kept
    assert repr(found.created_s) == repr(kept.created_s)
    assert found.is_genuine(SECRET)


async def test_what_was_never_put_is_not_found(store: Any) -> None:
    await store.put([row("one")])
    assert await store.get(("answer", "somebody", name_of("two")), NOW_S) is None
    assert await store.get(("feedback", "somebody", name_of("one")), NOW_S) is None
    assert await store.get(("answer", "somebody else", name_of("one")), NOW_S) is None


async def test_a_row_replaces_the_one_of_its_name_in_every_respect(store: Any) -> None:
    old = row("one", text="old words", tags=("old",), model="old", group=b"o" * 32, expires_s=NOW_S + 50)
    new = row("one", text="new words", tags=("new",), model="new", group=b"n" * 32, created_s=NOW_S + 1)
    await store.put([old])
    await store.put([new])
    assert await store.get(name(old), NOW_S + 100) == new
    for changes in ({"text": "old"}, {"tag": "old"}, {"model": "old"}, {"group": b"o" * 32}, {"expired_s": NOW_S + 99}):
        assert await store.rows(Filter("answer", **changes), now_s=NOW_S) == []
        assert await store.count(Filter("answer", **changes)) == Count(0, 0)
    for changes in ({"text": "new"}, {"tag": "new"}, {"model": "new"}, {"group": b"n" * 32}):
        assert await store.rows(Filter("answer", **changes), now_s=NOW_S) == [new]
    assert await store.count(Filter("answer")) == Count(1, new.num_bytes)


async def test_of_two_rows_of_one_name_in_a_put_the_later_is_kept(store: Any) -> None:
    first, second = row("one", text="first"), row("one", text="second")
    await store.put([first, row("two"), second])
    assert await store.get(name(first), NOW_S) == second
    assert (await store.count(Filter("answer"))).num_rows == 2


async def test_a_put_keeps_all_or_none(store: Any) -> None:
    unusable = replace(row("unusable"), text=None)
    with pytest.raises((TypeError, AttributeError)):
        await store.put([row("one"), unusable, row("two")])
    assert await store.count(Filter("answer")) == Count(0, 0)
    await store.put([])
    await store.put([row("one")])
    assert (await store.count(Filter("answer"))).num_rows == 1


async def test_many_rows_are_kept_deleted_and_counted(store: Any) -> None:
    rows = [row(str(number), created_s=NOW_S + number % 7, tags=(f"t{number % 2}",)) for number in range(2300)]
    for start in range(0, len(rows), 500):
        await store.put(rows[start : start + 500])
    assert await store.count(Filter("answer")) == Count(2300, sum(row.num_bytes for row in rows))
    even = Filter("answer", tag="t0")
    assert await store.count(even) == Count(1150, sum(row.num_bytes for row in rows[::2]))
    assert await store.delete(even) == 1150
    assert await store.count(Filter("answer")) == Count(1150, sum(row.num_bytes for row in rows[1::2]))
    assert await store.delete(Filter("answer")) == 1150
    assert await store.count(Filter("answer")) == Count(0, 0)


async def test_a_hundred_tasks_at_once_lose_nothing(store: Any) -> None:
    async def work(number: int) -> None:
        mine = [row(f"{number} {part}", tags=(str(number),)) for part in range(5)]
        await asyncio.gather(*(store.put([each]) for each in mine), store.put([row("everybody's", text=str(number))]))
        for each in mine:
            assert await store.get(name(each), NOW_S) == each
        await store.touch({name(each): NOW_S + number for each in mine})
        assert (await store.count(Filter("answer", tag=str(number)))).num_rows == 5
        assert await store.delete(Filter("answer", key=mine[0].key)) == 1

    await asyncio.gather(*(work(number) for number in range(100)))
    assert (await store.count(Filter("answer"))).num_rows == 401
    assert len(await store.rows(Filter("answer"), now_s=NOW_S, limit=1000)) == 401


async def test_rows_are_there_for_the_next_one_who_opens_the_store(make_store: MakeStore, kind: str) -> None:
    if kind == "memory":
        pytest.skip("memory ends with the process")
    store = await make_store()
    await store.put([row("one", tags=("t",))])
    await store.close()
    other = await make_store()
    assert await other.rows(Filter("answer", tag="t", text="one"), now_s=NOW_S) == [row("one", tags=("t",))]


async def test_closing_and_opening_may_be_repeated(store: Any, kind: str) -> None:
    await store.open()
    await store.close()
    await store.close()
    if kind != "memory":
        with pytest.raises(StoreError, match="not open"):
            await store.get(name(row()), NOW_S)
        with pytest.raises(StoreError, match="not open"):
            await store.put([row()])
    await store.open()
    await store.put([row()])
    assert await store.get(name(row()), NOW_S) == row()
