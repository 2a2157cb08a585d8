from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from miaotui.answers.near.acceptance import Prior
from miaotui.answers.near.near import Near, NearHits, question_of
from miaotui.answers.near.prior import prior_of
from miaotui.answers.near.vectors import packed
from miaotui.answers.row import Row, payload_of
from miaotui.answers.store import Count, Filter, Name, Order

GROUP = b"g" * 32
MINILM = prior_of("all-MiniLM-L6-v2")
KEPT = "How do I reset my password?"
ASKED = "how can I reset my password"


def vector_of(text: str) -> NDArray[np.float32]:
    """Words' directions added up: questions with words in common are close, whatever the words mean."""
    total = np.zeros(128, np.float32)
    for word in text.lower().replace("?", " ").split():
        total += np.random.default_rng(list(word.encode())).normal(size=128).astype(np.float32)
    return total / np.float32(np.linalg.norm(total))


def row_of(question: str, number: int = 1, tenant: str = "t", group: bytes = GROUP) -> Row:
    vector = packed(vector_of(question))
    payload = payload_of({"question": question})
    return Row("answer", tenant, bytes([number]) * 32, payload, float(number), group=group, vector=vector)


class Shop:
    """Rows, and near hits over them."""

    def __init__(self, rows: Sequence[Row] = (), delta: float = 0.05, prior: Prior = MINILM) -> None:
        self.rows = {("answer", row.tenant, row.key): row for row in rows}
        self.hits = NearHits(self.fetch, prior, delta=delta, at_least=0.3)
        for row in rows:
            self.hits.add(row)

    async def fetch(self, name: Name) -> Row | None:
        return self.rows.get(name)

    def find(self, question: str, tenant: str = "t", group: bytes = GROUP, vector: object = None) -> Near | None:
        found = vector_of(question) if vector is None else np.asarray(vector, np.float32)
        return asyncio.run(self.hits.find(question, found, tenant, group))


def test_the_same_question_in_other_words_is_served_and_explained() -> None:
    shop = Shop([row_of(KEPT), row_of("How do I reset my phone?", 2)])
    near = shop.find(ASKED, vector=vector_of(KEPT))
    assert near is not None
    assert near.accepted
    assert near.row is shop.rows["answer", "t", bytes([1]) * 32]
    assert near.similarity == pytest.approx(1.0)
    assert set(near.verdicts) == set(shop.hits.guards)
    assert not any(near.verdicts.values())
    fields = json.loads(json.dumps(near.best.as_fields()))
    assert fields["matched"] == KEPT
    assert fields["guards"]["negation"] == "passed"
    assert fields["p"] >= 0.95
    assert "right with probability" in near.why


def test_another_question_is_refused_with_the_reason_though_it_be_as_close_as_can_be() -> None:
    near = Shop([row_of(KEPT)]).find("How do I not reset my password?", vector=vector_of(KEPT))
    assert near is not None
    assert not near.accepted
    assert near.row is None
    assert "negations" in near.why
    assert near.best.decision is None


def test_what_passes_the_guards_and_is_not_close_is_refused_by_experience() -> None:
    near = Shop([row_of(KEPT)]).find(ASKED, vector=vector_of(KEPT) + 0.6 * vector_of("x"))
    assert near is not None
    assert not any(near.verdicts.values())
    assert not near.accepted
    assert near.best.decision is not None
    assert near.best.decision.tau > 0


def test_a_closer_question_that_is_refused_does_not_hide_one_that_is_not() -> None:
    shop = Shop([row_of(KEPT, 1), row_of("How do I never reset my password?", 2)])
    near = shop.find(ASKED, vector=0.94 * vector_of("How do I never reset my password?") + vector_of(KEPT))
    assert near is not None
    assert near.best.question == KEPT or not near.accepted


def test_nothing_of_another_tenant_or_group_is_found() -> None:
    shop = Shop([row_of(KEPT, 1), row_of(KEPT, 2, tenant="u"), row_of(KEPT, 3, group=b"h" * 32)])
    for tenant, group, number in (("t", GROUP, 1), ("u", GROUP, 2), ("t", b"h" * 32, 3)):
        near = shop.find(KEPT, tenant, group)
        assert near is not None
        assert near.row is not None
        assert near.row.key[0] == number
        assert len(near.candidates) == 1
    assert shop.find(KEPT, "v") is None


IN_CHINESE = "怎么学习钢琴？"


@pytest.mark.parametrize(("asked", "is_served"), [("怎么学习钢琴", True), ("如何学习钢琴？", False)])
def test_in_a_language_that_the_encoder_was_not_measured_in_only_the_same_words_are_served(
    asked: str, is_served: bool
) -> None:
    for prior, expected in ((MINILM, is_served), (replace(MINILM, languages=("en", "zh")), True)):
        shop = Shop([row_of(IN_CHINESE)], prior=prior)
        near = shop.find(asked, vector=vector_of(IN_CHINESE))
        assert near is not None
        assert near.accepted is expected
        assert ("not measured in this language" in near.why) is not expected


def test_an_answer_that_is_gone_is_not_served_and_forgotten() -> None:
    shop = Shop([row_of(KEPT)])
    shop.rows.clear()
    assert shop.find(KEPT) is None
    assert len(shop.hits.index) == 0


@pytest.mark.parametrize(
    "change", [{"payload": payload_of({"question": "What is my password?"})}, {"group": b"h" * 32}]
)
def test_a_row_that_is_not_the_one_taken_in_is_not_served(change: dict[str, object]) -> None:
    shop = Shop([row_of(KEPT)])
    shop.rows = {name: replace(row, **change) for name, row in shop.rows.items()}
    near = shop.find(KEPT)
    assert near is None or not near.accepted


@pytest.mark.parametrize("question", ["", "x" * 1001, "   ", "?!"])
def test_a_question_that_cannot_be_compared_gets_no_near_hit(question: str) -> None:
    near = Shop([row_of(KEPT)]).find(question, vector=vector_of(KEPT))
    assert near is None or not near.accepted


def test_rows_without_a_usable_vector_or_question_are_not_taken_in() -> None:
    hits = Shop().hits
    assert hits.add(row_of(KEPT))
    for bad in (
        replace(row_of(KEPT), vector=b""),
        replace(row_of(KEPT), vector=b"\x01abc"),
        replace(row_of(KEPT), payload=b"{}"),
        replace(row_of(KEPT), payload=b'{"question": 3}'),
        replace(row_of(KEPT), payload=payload_of({"question": "x" * 1001})),
        replace(row_of(KEPT), kind="case"),
    ):
        assert not hits.add(bad)


def test_an_answer_told_wrong_is_not_served_again_also_after_a_restart() -> None:
    shop = Shop([row_of(KEPT)])
    near = shop.find(ASKED, vector=vector_of(KEPT))
    assert near is not None
    assert near.accepted
    kept = shop.hits.observation(near.best, "t", right=False, source="user", now_s=5.0)
    assert kept.kind == "observation"
    assert kept.group == near.best.key
    again = Shop([row_of(KEPT)])
    again.hits.learn(kept)
    for each in (shop, again):
        refused = each.find(ASKED, vector=vector_of(KEPT))
        assert refused is not None
        assert not refused.accepted
        assert "was wrong" in refused.why


def test_what_one_tenant_observes_changes_nothing_for_another() -> None:
    shop = Shop([row_of(KEPT), row_of(KEPT, 1, tenant="u")])
    for _ in range(50):
        near = shop.find(ASKED, vector=vector_of(KEPT))
        assert near is not None
        shop.hits.observation(near.best, "t", right=False, source="user", now_s=5.0)
    other = shop.find(ASKED, "u", vector=vector_of(KEPT))
    assert other is not None
    assert other.accepted


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"{}", b'{"similarity":"x","distance":0,"right":true}',
        b'{"similarity":2,"distance":0,"right":true}',
        b'{"similarity":NaN,"distance":0,"right":true}', b'{"similarity":1,"distance":0,"right":1}', b"\xff",
    ],
)  # fmt: skip
def test_an_observation_that_cannot_be_read_is_passed_over(payload: bytes) -> None:
    shop = Shop([row_of(KEPT)])
    shop.hits.learn(Row("observation", "t", b"o", payload, 1.0, group=bytes([1]) * 32))
    near = shop.find(KEPT)
    assert near is not None
    assert near.best.decision is not None
    assert near.best.decision.num_observations == 0


class FewAtATime:
    """A store that can only list, three rows a page."""

    name = "few"

    def __init__(self, rows: list[Row]) -> None:
        self.kept = rows

    async def rows(
        self, which: Filter, *, now_s: float, order: Order = "newest", limit: int = 100, behind: Row | None = None
    ) -> list[Row]:
        rows = [row for row in self.kept if row.kind == which.kind]
        start = rows.index(behind) + 1 if behind is not None else 0
        return rows[start : start + min(limit, 3)]

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def get(self, name: Name, now_s: float) -> Row | None: ...
    async def put(self, rows: Sequence[Row]) -> None: ...
    async def delete(self, which: Filter) -> int:
        return 0

    async def touch(self, uses: object) -> None: ...
    async def count(self, which: Filter) -> Count:
        return Count(0, 0)


def test_a_start_takes_in_every_page_of_a_store_and_what_was_observed() -> None:
    rows = [row_of(f"What is item number {number}?", number) for number in range(1, 9)]
    wrong = payload_of({"similarity": 1.0, "distance": 0.0, "right": False, "source": "user"})
    observed = Row("observation", "t", b"o", wrong, 9.0, group=rows[4].key)
    shop = Shop()
    assert asyncio.run(shop.hits.load(FewAtATime([*rows, observed]), 10.0)) == 8
    shop.rows = {("answer", row.tenant, row.key): row for row in rows}
    for row in rows:
        near = shop.find(question_of(row))
        assert near is not None
        assert near.best.key == row.key
        assert near.accepted == (row is not rows[4])
