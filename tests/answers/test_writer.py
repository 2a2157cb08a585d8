"""Rows do not gather without end: expired ones are removed, and memory has only what is looked up by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from answers.dict_store import DictStore
from answers.rows import NOW_S, row
from answers.test_cache import entry, question
from miaotui.answers import writer
from miaotui.answers.decision import KEPT_S, MAX_QUESTION, Decision, decision_of
from miaotui.answers.level import Level
from miaotui.answers.row import Row, payload_of
from miaotui.answers.setup import open_cache
from miaotui.answers.store import KINDS, Filter
from miaotui.answers.writer import Writer

pytestmark = pytest.mark.anyio


def rows_of_every_kind() -> list[Row]:
    return [
        row(f"{kind} {end}", kind=kind, expires_s=end) for kind in KINDS for end in (None, NOW_S - 1.0, NOW_S + 1000.0)
    ]


async def test_a_sweep_removes_what_has_expired_of_every_kind_from_the_stores_that_work() -> None:
    broken, store = DictStore("broken"), DictStore()
    broken.is_down = True
    await store.put(rows_of_every_kind())
    one = Writer([Level(broken), Level(store)], lambda: NOW_S)
    await one.sweep()
    assert len(store.kept) == 2 * len(KINDS)
    assert not any(each.expires_s == NOW_S - 1.0 for each in store.kept.values())
    await one.close()


async def test_sweeps_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SWEEP_S", 0.0)
    store = DictStore()
    one = Writer([Level(store)], lambda: NOW_S)
    for _ in range(3):
        await store.put(rows_of_every_kind())
        async with asyncio.timeout(60):
            while len(store.kept) > 2 * len(KINDS):
                await asyncio.sleep(0)
    await one.close()


async def test_decisions_stay_out_of_the_memory_in_front_of_a_store(tmp_path: Path) -> None:
    for urls, at_front in ((["sqlite"], 0), (["memory"], 1)):
        cache = open_cache(urls, tmp_path, memory_bytes=1 << 20, store_bytes=1 << 20)
        assert cache is not None
        await cache.open()
        await cache.keep(entry(question()))
        cache.note(Decision("r1", "", "model", "", cache.now_s, "Is it on?"))
        assert (await cache.why("r1", "")) is not None  # which brings other rows to the front
        held = [(await cache.levels[0].count(Filter(kind))).num_rows for kind in ("answer", "decision")]
        assert held == [1, at_front]
        assert (await cache.levels[-1].count(Filter("decision"))).num_rows == 1
        await cache.close()


async def test_three_thousand_expired_decisions_take_neither_memory_nor_disk(tmp_path: Path) -> None:
    cache: Any = open_cache(["sqlite"], tmp_path, memory_bytes=1 << 20, store_bytes=1 << 30)
    await cache.open()
    for number in range(3000):
        cache.note(Decision(f"r{number}", "", "model", "", cache.now_s - KEPT_S - 864000.0, "x" * 1000))
    await cache.flush()
    assert (await cache.levels[0].count(Filter("decision"))).num_bytes == 0
    await cache._writer.sweep()
    assert (await cache.levels[-1].count(Filter("decision"))).num_rows == 0
    await cache.close()


def test_a_decision_has_the_beginning_of_its_question_once() -> None:
    made = Decision("r1", "", "model", "", NOW_S, "word " * 100000).row()
    assert made.num_bytes < MAX_QUESTION + 1000
    assert decision_of(made).question == ("word " * 100000)[:MAX_QUESTION] + "…"
    short = Decision("r1", "", "model", "", NOW_S, "Is it on?", candidates=[{"entry": "00"}])
    assert decision_of(short.row()) == short
    assert short.row().payload.count(b"Is it on?") == 0
    before = row(kind="decision", text="Is it on?", payload=payload_of(short.row().fields | {"question": "Is it on?"}))
    assert decision_of(before).question == "Is it on?"
