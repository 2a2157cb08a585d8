from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from answers.near.swaps import Swap, all_swaps
from miaotui.answers.near.acceptance import Prior
from miaotui.answers.near.guards import GUARDS, verdicts
from miaotui.answers.near.near import NearHits
from miaotui.answers.near.reading import read
from miaotui.answers.near.vectors import packed
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Name

SWAPS = all_swaps()
KINDS = ["entity", "number", "unit", "date", "direction", "question", "order", "negation"]
SMALL_KINDS = ["case", "small word", "sign", "person", "regression"]
# Believes everything: what is refused is refused by the guards.
CREDULOUS = Prior((20.0, 0.0, 0.0), ((1e-6, 0, 0), (0, 1e-6, 0), (0, 0, 1e-6)), (0.0, 0.0, 0.0))
SAME_VECTOR = np.ones(32, np.float32)


def is_served(swap: Swap) -> bool:
    there, back = verdicts(read(swap.asked), read(swap.kept)), verdicts(read(swap.kept), read(swap.asked))
    return not (any(there.values()) and any(back.values()))


def test_no_swap_is_served_though_its_similarity_be_one(report_faults: Callable[[str, int, int], None]) -> None:
    assert len({frozenset((swap.kept, swap.asked)) for swap in SWAPS}) == len(SWAPS) >= 2000
    report_faults("near hits: swapped questions served", len(SWAPS), sum(map(is_served, SWAPS)))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_swap_is_tried_in_both_languages(kind: str, language: str) -> None:
    assert sum(swap.kind == kind and swap.language == language for swap in SWAPS) >= 18


@pytest.mark.parametrize("kind", SMALL_KINDS)
def test_what_is_easily_lost_on_the_way_is_tried(kind: str) -> None:
    assert sum(swap.kind == kind for swap in SWAPS) >= 70


def test_no_swap_is_served_by_the_whole_path(report_faults: Callable[[str, int, int], None]) -> None:
    async def served(swap: Swap) -> bool:
        payload = payload_of({"question": swap.kept})
        row = Row("answer", "t", b"k" * 32, payload, 0.0, group=b"g", vector=packed(SAME_VECTOR))

        async def fetch(name: Name) -> Row | None:
            return row

        near_hits = NearHits(fetch, CREDULOUS, delta=0.5)
        assert near_hits.add(row)
        same = await near_hits.find(swap.kept, SAME_VECTOR, "t", b"g")
        assert same is not None
        assert same.accepted, "the test would pass with nothing ever served"
        near = await near_hits.find(swap.asked, SAME_VECTOR, "t", b"g")
        assert near is not None
        return near.accepted

    sample = SWAPS[::7]
    report_faults("near hits: swaps served at similarity 1", len(sample), sum(asyncio.run(served(s)) for s in sample))


@pytest.mark.parametrize(
    ("kind", "guards", "share"),
    [
        ("number", ["numbers"], 0.95),
        ("unit", ["units", "names"], 0.98),
        ("date", ["dates"], 1.0),
        ("order", ["order"], 1.0),
        ("negation", ["negation"], 0.95),
        ("direction", ["negation", "order"], 0.7),
        ("question", ["question"], 1.0),
        ("entity", ["words"], 0.99),
    ],
)
def test_the_guard_of_each_kind_refuses_it_without_the_others(kind: str, guards: list[str], share: float) -> None:
    swaps = [swap for swap in SWAPS if swap.kind == kind]
    refused = Counter(
        any(GUARDS[name](read(swap.asked), read(swap.kept)) is not None for name in guards) for swap in swaps
    )
    assert refused[True] >= share * len(swaps)
