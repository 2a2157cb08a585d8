"""Rows are found by what they belong to, by their words and page by page; without others' and those that expired."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from answers.rows import HOSTILE, NOW_S, name, row
from miaotui.answers.row import Row
from miaotui.answers.store import Count, Filter
from miaotui.errors import InvalidRequestError

pytestmark = pytest.mark.anyio


async def texts(store: Any, **which: Any) -> list[str]:
    return sorted(found.text for found in await store.rows(Filter("answer", **which), now_s=NOW_S))


async def test_a_filter_wants_all_that_it_gives(store: Any) -> None:
    groups = [b"a" * 32, b"b" * 32]
    rows = [
        row(f"{tenant} {model} {tag} {group[:1].decode()}", tenant=tenant, model=model, tags=(tag, "all"), group=group)
        for tenant in ("x", "y") for model in ("m", "n") for tag in ("t", "u") for group in groups
    ]  # fmt: skip
    others = [replace(each, kind="decision") for each in rows]
    await store.put(rows + others)
    for tenant in (None, "x"):
        for model in (None, "m"):
            for tag in (None, "all", "t"):
                for group in (None, groups[0]):
                    for text in (None, "t A"):
                        which = Filter("answer", tenant, None, group, model, tag, text)
                        want = {
                            each.text for each in rows
                            if tenant in (None, each.tenant) and model in (None, each.model)
                            and (tag is None or tag in each.tags) and group in (None, each.group)
                            and (text is None or {"t", "a"} <= set(each.text.split()))
                        }  # fmt: skip
                        found = await store.rows(which, now_s=NOW_S)
                        assert {each.text for each in found} == want, which
                        assert all(each.kind == "answer" for each in found)
                        assert (await store.count(which)).num_rows == len(want), which
    one = rows[5]
    assert await store.rows(Filter("answer", key=one.key), now_s=NOW_S) == [one]
    assert await store.rows(Filter("answer", "y", one.key, tag="nothing"), now_s=NOW_S) == []
    assert await store.delete(Filter("answer", "x", model="m", tag="t", text="b")) == 1
    assert (await store.count(Filter("answer"))).num_rows == 15
    assert (await store.count(Filter("decision"))).num_rows == 16


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_a_text_is_found_by_itself_and_not_by_more(store: Any, text: str) -> None:
    await store.put([row(text), row("something else", key=b"k" * 32)])
    found = await texts(store, text=text)
    assert text in found
    if text.strip():
        assert found == [text]
    assert await texts(store, text=f"{text} unheard-of") == []


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("TURN off", ["Turn the light off!", "turn OFF: now"]),
        ("light", ["Turn the light off!", "turn on the Light"]),
        ("turn AND off", []),
        ("off OR on", []),
        ("turn NOT off", []),
        ("turn*", []),
        ("ligh", []),
        ('"turn off"', []),
        ("off:", ["turn OFF: now"]),
        ("C", ["C++ and c"]),
        ("c++", ["C++ and c"]),
        ("++", ["C++ and c"]),
        ("ＳＴＲＡＳＳＥ", ["Straße 5"]),
        ("北京", ["我在北京工作"]),
        ("京", ["东京和南京", "我在北京工作"]),
        ("京北", []),
        ("在 工作", ["我在北京工作"]),
        ("东京在", []),
        ("", None),
        ("  \n", None),
    ],
)
async def test_words_must_all_occur_without_regard_to_case_or_order(
    store: Any, search: str, found: list[str] | None
) -> None:
    kept = ["Turn the light off!", "turn on the Light", "turn OFF: now", "C++ and c", "Straße 5", "我在北京工作",
            "东京和南京"]  # fmt: skip
    await store.put([row(text) for text in kept])
    assert await texts(store, text=search) == sorted(kept if found is None else found)
    assert (await store.count(Filter("answer", text=search))).num_rows == len(kept if found is None else found)


async def test_a_search_of_very_many_words_is_refused_with_a_reason(store: Any) -> None:
    many = " ".join(f"w{number}" for number in range(256))
    await store.put([row(many + " end")])
    assert await texts(store, text=many) == [many + " end"]
    more = Filter("answer", text=many + " more")
    for work in (store.rows(more, now_s=NOW_S), store.count(more), store.delete(more)):
        with pytest.raises(InvalidRequestError, match="256"):
            await work


@pytest.mark.parametrize("tenant", [None, "x"])
@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_follow_each_other_without_gap_or_overlap(store: Any, order: str, tenant: str | None) -> None:
    rows = [
        row(f"{number} {owner}", tenant=owner, created_s=NOW_S + number // 7 * 0.1)
        for number in range(41)
        for owner in ("x", "xy")
    ]
    await store.put(rows)
    which = Filter("answer", tenant)
    seen: list[Row] = []
    behind = None
    while page := await store.rows(which, now_s=NOW_S, order=order, limit=6, behind=behind):
        assert len(page) <= 6
        seen += page
        behind = page[-1]
        await store.delete(Filter("answer", behind.tenant, behind.key))  # what is behind a row needs no row
    want = [each for each in rows if tenant in (None, each.tenant)]
    want.sort(key=lambda each: (each.created_s, each.tenant.encode(), each.key), reverse=order == "newest")
    assert seen == want


async def test_a_page_may_be_empty_and_may_not_be_negative(store: Any) -> None:
    await store.put([row()])
    assert await store.rows(Filter("answer"), now_s=NOW_S, limit=0) == []
    with pytest.raises(ValueError, match="-1"):
        await store.rows(Filter("answer"), now_s=NOW_S, limit=-1)
    with pytest.raises(ValueError, match="order of use"):
        await store.rows(Filter("answer"), now_s=NOW_S, order="least used", behind=row())


async def test_expired_rows_are_not_returned_and_can_be_deleted(store: Any) -> None:
    rows = [row(str(number), expires_s=NOW_S + 1000 + number, tags=("t",), group=b"g" * 32) for number in range(5)]
    rows.append(row("for ever"))
    await store.put(rows)
    now_s = NOW_S + 1002
    live = {"3", "4", "for ever"}
    assert await store.get(name(rows[2]), now_s) is None
    assert await store.get(name(rows[3]), now_s) == rows[3]
    for which in (Filter("answer"), Filter("answer", "somebody"), Filter("answer", model="")):
        for order in ("newest", "oldest", "least used"):
            found = await store.rows(which, now_s=now_s, order=order)
            assert {each.text for each in found} == live
    for which in (Filter("answer", tag="t"), Filter("answer", group=b"g" * 32)):
        assert {each.text for each in await store.rows(which, now_s=now_s)} == {"3", "4"}
    assert (await store.count(Filter("answer", expired_s=now_s))).num_rows == 3
    assert await store.delete(Filter("answer", "somebody else", expired_s=now_s)) == 0
    assert await store.delete(Filter("answer", expired_s=now_s)) == 3
    assert {each.text for each in await store.rows(Filter("answer"), now_s=NOW_S)} == live
    assert await store.count(Filter("answer")) == Count(3, sum(each.num_bytes for each in rows[3:]))


async def test_a_row_that_has_expired_when_it_is_put_is_never_seen(store: Any) -> None:
    await store.put([row("late", expires_s=NOW_S - 1000), row("late", kind="case", expires_s=0.0)])
    assert await store.get(name(row("late")), NOW_S) is None
    assert await store.rows(Filter("answer"), now_s=NOW_S) == []
    assert await store.rows(Filter("case"), now_s=NOW_S) == []
    await store.put([row("late")])
    assert await store.get(name(row("late")), NOW_S) == row("late")


async def test_tenants_see_nothing_of_each_other(store: Any) -> None:
    await store.put([row(f"{number}", tenant=f"tenant {number % 10}", tags=("t",)) for number in range(100)])
    for number in range(100):
        stranger = f"tenant {(number + 1) % 10}"
        assert await store.get(("answer", stranger, row(f"{number}").key), NOW_S) is None
    for more in ({}, {"tag": "t"}, {"text": "3"}):
        found = await store.rows(Filter("answer", "tenant 3", **more), now_s=NOW_S)
        assert found
        assert {each.tenant for each in found} == {"tenant 3"}
    assert await store.delete(Filter("answer", "tenant 3")) == 10
    assert (await store.count(Filter("answer"))).num_rows == 90
