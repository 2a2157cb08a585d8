"""What was called wrong does not come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from answers.dict_store import DictStore
from answers.test_cache import PLAIN, Clock, entry, question, with_cache
from miaotui.answers import replay
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.decision import Decision
from miaotui.answers.replay import Replayed, verify
from miaotui.answers.store import Filter
from miaotui.answers.verdict import Feedback, give_feedback, reject
from miaotui.errors import InvalidRequestError, StoreError, UnknownRequestError


def test_a_rejected_answer_is_gone_and_is_not_kept_again_while_another_is() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(), "No."))
        rejected = await reject(cache, "", question().key, comment="it is on")
        assert rejected is not None
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        assert not await cache.keep(entry(question(), "No."))
        assert isinstance(await cache.look_up(question(), PLAIN), Missed)
        assert await verify(cache, "") == Replayed(1, 0, [])
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
        done = await verify(cache, "")
        assert (done.num_answers, [one.answer for one in done.violations]) == (1, ["No."])

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
        (said,) = [row.fields for row in await cache.rows(Filter("feedback", ""))]  # the last word on each request
        assert (said["rating"], said["question"], said["answer"]) == ("down", "Is it on?", "No.")
        assert (said["correction"], said["comment"]) == ("Yes.", "look at it")

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
        with pytest.raises(UnknownRequestError, match="request_id"):
            await give_feedback(cache, "", Feedback("r2", "up"))
        with pytest.raises(InvalidRequestError, match="request_id"):
            await give_feedback(cache, "other", Feedback("r1", "up"))

    with_cache(work)


def test_a_rating_is_up_or_down_and_words_are_bounded() -> None:
    with pytest.raises(InvalidRequestError, match="rating"):
        Feedback("r1", "sideways")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="correction"):
        Feedback("r1", "down", "x" * 20000)


def test_feedback_holds_what_was_asked_and_answered_although_it_is_not_kept() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        about = {
            "path": "model",
            "entry": None,
            "question": "Is it on?",
            "conversation": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it on?"}],
            "answer": "It is, as far as",
            "finish_reason": "length",
            "model": "m",
            "receipt": {"path": "model"},
            "cut": False,
        }
        await give_feedback(cache, "", Feedback("r1", "down", "Yes."), about)
        await give_feedback(cache, "", Feedback("r1", "down", "Yes!"), about)
        (said,) = [row.fields for row in await cache.rows(Filter("feedback", ""))]
        assert {name: said[name] for name in about} == about
        assert said["correction"] == "Yes!"

    with_cache(work)


def test_feedback_is_not_acknowledged_where_the_lasting_store_is_down() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        await cache.keep(entry(question(), "No."))
        note(cache, clock)
        await cache.flush()
        stores[1].is_down = True
        with pytest.raises(StoreError):
            await give_feedback(cache, "", Feedback("r1", "down"))
        assert not [name for store in stores for name in store.kept if name[0] in ("feedback", "case")]

    with_cache(work)


def test_feedback_is_not_acknowledged_before_the_lasting_store_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        note(cache, clock)
        await cache.flush()

        async def full(rows: Any) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(stores[1], "put", full)
        with pytest.raises(StoreError, match="full"):
            await give_feedback(cache, "", Feedback("r1", "up"))

    with_cache(work)


PAIR = ("How can I reset my password?", "How do I reset my password?")


@pytest.mark.parametrize("asked", [PAIR[0].lower(), PAIR[0].rstrip("?"), "  how CAN I reset… my password ！", PAIR[0]])
def test_a_pair_is_held_apart_however_it_is_written_and_whichever_was_first(asked: str) -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        kept = entry(question(PAIR[1]))
        await cache.keep(kept)
        await reject(cache, "", kept.key, asked=PAIR[0])
        assert await cache.parted("", asked, PAIR[1])
        assert await cache.parted("", PAIR[1].upper(), asked)
        assert not await cache.parted("other", asked, PAIR[1])
        assert not await cache.parted("", "How can I change my password?", PAIR[1])

    with_cache(work)


def test_verify_replays_pairs_and_fails_where_neither_the_pair_nor_a_guard_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        for asked, kept in (PAIR, ("Is it not on?", "Is it on?")):
            await cache.keep(entry(question(kept)))
            await reject(cache, "", question(kept).key, asked=asked)
        assert await verify(cache, "") == Replayed(0, 2, [])

        async def nothing_is_parted(tenant: str, one: str, other: str) -> bool:
            return False

        monkeypatch.setattr(cache, "parted", nothing_is_parted)
        done = await verify(cache, "")
        assert (done.num_pairs, [one.question for one in done.violations]) == (2, [PAIR[1]])
        monkeypatch.setattr(replay, "verdicts", lambda asked, kept: {})
        assert {one.question for one in (await verify(cache, "")).violations} == {PAIR[1], "Is it on?"}
        await cache.delete(Filter("answer", ""))
        assert (await verify(cache, "")).violations == []

    with_cache(work)


def test_cases_keep_the_beginning_of_long_texts_and_are_known_all_the_same() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        asked = question("long " * 50000)
        await cache.keep(entry(asked, "No. " * 50000))
        await reject(cache, "", asked.key)
        (row,) = await cache.rows(Filter("case", ""))
        assert row.num_bytes < 10000
        assert not await cache.keep(entry(asked, "No. " * 50000))
        await cache.put_now([entry(asked, "No. " * 50000).row()])
        assert len((await verify(cache, "")).violations) == 1

    with_cache(work)


def test_a_page_is_full_although_rows_in_between_are_not_genuine() -> None:
    async def work(cache: AnswerCache, stores: list[DictStore], clock: Clock) -> None:
        for number in range(9):
            made = entry(question(f"Is lamp {number} on?"))
            await cache.put_now([replace(made, created_s=clock.now_s + number).row()])
        forged = {name for name, row in stores[1].kept.items() if row.created_s in (clock.now_s + 8, clock.now_s + 6)}
        for name in forged:
            stores[1].kept[name] = replace(stores[1].kept[name], payload=b"{}")
        first = await cache.rows(Filter("answer", ""), limit=3)
        assert [row.created_s - clock.now_s for row in first] == [7, 5, 4]
        rest = await cache.rows(Filter("answer", ""), limit=100, behind=first[-1])
        assert [row.created_s - clock.now_s for row in rest] == [3, 2, 1, 0]

    with_cache(work)
