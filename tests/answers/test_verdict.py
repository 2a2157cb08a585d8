"""What was called wrong does not come back."""

from __future__ import annotations

from typing import Any

import pytest

from answers.dict_store import DictStore
from answers.test_cache import PLAIN, Clock, entry, question, with_cache
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.decision import Decision
from miaotui.answers.store import Filter
from miaotui.answers.verdict import Feedback, give_feedback, reject, verify
from miaotui.errors import InvalidRequestError


def test_a_rejected_answer_is_gone_and_is_not_kept_again_while_another_is() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(), "No."))
        rejected = await reject(cache, "", question().key, comment="it is on")
        assert rejected is not None
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        assert not await cache.keep(entry(question(), "No."))
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        assert await verify(cache, "") == (1, [])
        assert await cache.keep(entry(question(), "Yes."))
        found = await cache.look_up(question(), PLAIN)
        assert isinstance(found, Found)
        assert found.entry.answer == "Yes."

    with_cache(work)


def test_verify_tells_of_a_rejected_answer_that_is_kept_again() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(), "No."))
        await reject(cache, "", question().key)
        await cache.put_now([entry(question(), "No.").row()])  # past the check that `keep` makes
        num_cases, violations = await verify(cache, "")
        assert (num_cases, [one.answer for one in violations]) == (1, ["No."])

    with_cache(work)


def test_nobody_rejects_another_tenant_s_answer() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(tenant="a")))
        assert await reject(cache, "b", question(tenant="a").key) is None
        assert isinstance(await cache.look_up(question(tenant="a"), PLAIN), Found)

    with_cache(work)


def note(cache: AnswerCache, clock: Clock, path: Any = "model") -> None:
    cache.note(Decision("r1", "", path, "", clock.now_s, question="Is it on?", entry=question().key.hex()))


def test_feedback_is_kept_with_what_it_is_about_and_down_rejects() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(), "No."))
        note(cache, clock)
        await give_feedback(cache, "", Feedback("r1", "up"))
        assert isinstance(await cache.look_up(question(), PLAIN), Found)
        await give_feedback(cache, "", Feedback("r1", "down", "Yes.", "look at it"))
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        said = [row.fields for row in await cache.rows(Filter("feedback", ""))]
        assert {(one["rating"], one["question"], one["answer"], one["correction"]) for one in said} == {
            ("up", "Is it on?", "No.", ""),
            ("down", "Is it on?", "No.", "Yes."),
        }

    with_cache(work)


def test_a_near_hit_that_was_wrong_parts_the_two_questions_and_leaves_the_answer_to_its_own() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question()))
        await reject(cache, "", question().key, asked="Is it off?")
        assert isinstance(await cache.look_up(question(), PLAIN), Found)
        (case,) = await cache.rows(Filter("case", ""))
        assert (case.fields["kind"], case.fields["asked"]) == ("pair", "Is it off?")

    with_cache(work)


def test_feedback_on_what_nobody_asked_is_refused() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        note(cache, clock)
        with pytest.raises(InvalidRequestError, match="request_id"):
            await give_feedback(cache, "", Feedback("r2", "up"))
        with pytest.raises(InvalidRequestError, match="request_id"):
            await give_feedback(cache, "other", Feedback("r1", "up"))

    with_cache(work)


def test_a_rating_is_up_or_down_and_words_are_bounded() -> None:
    with pytest.raises(InvalidRequestError, match="rating"):
        Feedback("r1", "sideways")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="correction"):
        Feedback("r1", "down", "x" * 20000)
