"""Beyond its limits a store lets go of the rows that were not used for longest, and of no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from answers.conformance.conftest import MakeStore
from answers.rows import NOW_S, name, row
from miaotui.answers.store import Count, Filter

pytestmark = pytest.mark.anyio


def answers(number: int, **changes: Any) -> list[Any]:
    return [row(f"{each:02}", created_s=NOW_S + 10 * each, tenant=f"t{each % 3}", **changes) for each in range(number)]


SIZE = answers(1)[0].num_bytes


async def texts(store: Any, kind: Any = "answer") -> set[str]:
    return {each.text for each in await store.rows(Filter(kind), now_s=NOW_S, limit=1000)}


async def test_uses_decide_the_order_of_use(store: Any) -> None:
    rows = answers(5)
    await store.put(rows)
    await store.touch({name(rows[0]): NOW_S + 100, name(rows[2]): NOW_S + 50})
    await store.touch({name(rows[0]): NOW_S + 45, name(row("unknown")): NOW_S + 500})
    await store.touch({})
    found = await store.rows(Filter("answer"), now_s=NOW_S, order="least used", limit=4)
    assert [each.text for each in found] == ["01", "03", "04", "02"]
    found = await store.rows(Filter("answer", "t0"), now_s=NOW_S, order="least used")
    assert [each.text for each in found] == ["03", "00"]
    assert (await store.count(Filter("answer"))).num_rows == 5


async def test_the_least_recently_used_answers_go_first(make_store: MakeStore) -> None:
    rows = answers(12)
    store = await make_store(max_bytes=6 * SIZE + SIZE // 2)
    for each in rows[:6]:
        await store.put([each])
    await store.touch({name(rows[0]): NOW_S + 51, name(rows[3]): NOW_S + 52})
    for each in rows[6:8]:
        await store.put([each])
    assert await texts(store) == {"00", "03", "04", "05", "06", "07"}
    await store.touch({name(rows[3]): NOW_S + 72, name(rows[0]): NOW_S + 71})
    await store.put(rows[8:])
    assert await texts(store) == {"00", "03", "08", "09", "10", "11"}
    assert await store.count(Filter("answer")) == Count(6, 6 * SIZE)


async def test_rows_of_every_kind_are_bounded_and_cases_are_not_let_go(make_store: MakeStore) -> None:
    store = await make_store(max_bytes=24 * SIZE)
    for kind in ("decision", "feedback", "case", "observation"):
        await store.put(answers(12, kind=kind))
    held = {kind: await texts(store, kind) for kind in ("decision", "feedback", "case", "observation")}
    assert held["decision"] == held["observation"] == {"09", "10", "11"}
    assert held["feedback"] == {"06", "07", "08", "09", "10", "11"}
    assert len(held["case"]) == 12
    await store.put(answers(30))
    if store.name == "memory":  # where the limit is that of all rows together
        assert await texts(store) == {"27", "28", "29"}
        numbers = {kind: len(await texts(store, kind)) for kind in held}
        assert numbers == {"decision": 0, "observation": 3, "feedback": 6, "case": 12}
    else:
        assert len(await texts(store)) == 24
        assert {kind: await texts(store, kind) for kind in held} == held


async def test_an_answer_that_is_larger_than_the_limit_is_not_kept_and_displaces_nothing(make_store: MakeStore) -> None:
    store = await make_store(max_bytes=4000)
    await store.put([row("small"), row("grows")])
    await store.put([row("grows", payload=b'{"a":"' + b"x" * 5000 + b'"}'), row("other")])
    assert await texts(store) == {"small", "other"}
    await store.put([row("large", kind="case", payload=b'{"a":"' + b"x" * 5000 + b'"}')])
    assert await texts(store, "case") == (set() if store.name == "memory" else {"large"})
    await store.put([row("large", kind="decision", payload=b'{"a":"' + b"x" * 5000 + b'"}')])
    assert await texts(store, "decision") == set()


async def test_a_replaced_answer_is_charged_once(make_store: MakeStore) -> None:
    store = await make_store(max_bytes=4 * SIZE)
    for _ in range(20):
        await store.put(answers(4))
    assert await texts(store) == {"00", "01", "02", "03"}
    assert await store.count(Filter("answer")) == Count(4, 4 * SIZE)


async def test_the_limit_holds_for_many_at_once(make_store: MakeStore) -> None:
    limit = 20 * SIZE
    store = await make_store(max_bytes=limit)
    others = [answers(10, key=bytes([number]) * 32) for number in range(60)]
    await asyncio.gather(*map(store.put, others))
    await asyncio.gather(*(store.put([each]) for each in answers(60)))
    count = await store.count(Filter("answer"))
    assert 0 < count.num_bytes <= limit
    found = await store.rows(Filter("answer"), now_s=NOW_S, limit=1000)
    assert (len(found), sum(each.num_bytes for each in found)) == (count.num_rows, count.num_bytes)


async def test_a_lowered_limit_is_reached(make_store: MakeStore) -> None:
    await (await make_store()).put(answers(90))
    store = await make_store(max_bytes=10 * SIZE)
    if store.name != "memory":
        await store.put(answers(100)[99:])
        assert await texts(store) == {"99", *(f"{number:02}" for number in range(81, 90))}
