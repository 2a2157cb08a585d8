"""Answers to questions in other words: given where guards and evidence allow it, explained, and learned from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from answers.dict_store import DictStore
from answers.test_cache import PLAIN, SECRET, Clock, entry, question
from miaotui.answers import nearby as nearby_module
from miaotui.answers.cache import AnswerCache, Found, Missed
from miaotui.answers.control import CacheControl
from miaotui.answers.decision import Decision
from miaotui.answers.entry import curated
from miaotui.answers.near.answers import compared
from miaotui.answers.near.index import NearIndex
from miaotui.answers.near.reading import read
from miaotui.answers.near.vectors import packed
from miaotui.answers.store import Filter
from miaotui.answers.verdict import Feedback, give_feedback, reject
from miaotui.errors import ContextLengthError, OverloadedError

ASKED = "How do I reset my password?"
OTHER_WORDS = "How can I reset my password?"
ANOTHER = "How do I never reset my password?"


class Encoder:
    """All questions look alike to it: what is refused is refused by the guards."""

    def __init__(self) -> None:
        self.is_down = False
        self.num_texts = 0

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.is_down:
            raise OverloadedError("too much waits.")
        self.num_texts += len(texts)
        rows = np.zeros((len(texts), 32), np.float32)
        rows[:, 0] = 1.0
        return rows


def with_near(
    work: Callable[[AnswerCache, Encoder], Awaitable[None]], store: DictStore | None = None, delta: float = 0.05
) -> None:
    async def run() -> None:
        encoder = Encoder()
        cache = AnswerCache([DictStore("first"), store or DictStore("second")], SECRET, now=Clock())
        cache.use_near(delta, "all-MiniLM-L6-v2", encoder)
        await cache.open()
        try:
            await work(cache, encoder)
        finally:
            await cache.close()

    asyncio.run(run())


async def answered(cache: AnswerCache, text: str, answer: str = "On the page.") -> Missed:
    """A question that was asked, computed and kept."""
    missed = await cache.look_up(question(text), PLAIN)
    assert isinstance(missed, Missed)
    made = entry(question(text), answer, vector=missed.vector)
    await cache.keep(replace(made, created_s=Clock.now_s - 100))
    await cache.compare(question(text), missed, answer)
    return missed


async def look(cache: AnswerCache, text: str, **control: Any) -> Found | Missed:
    return await cache.look_up(question(text), CacheControl(**control))


def test_the_same_question_in_other_words_has_the_kept_answer_with_its_reasons() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        found = await look(cache, OTHER_WORDS)
        assert isinstance(found, Found)
        assert (found.path, found.matched, found.entry.answer) == ("near", ASKED, "On the page.")
        assert set(found.guards.values()) == {"passed"}
        assert found.similarity is not None
        assert found.similarity > 0.99
        assert cache.counters()["hits"]["near"] == 1

    with_near(work)


def test_a_question_that_means_something_else_is_computed_and_the_refusal_explained() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        missed = await look(cache, ANOTHER)
        assert isinstance(missed, Missed)
        assert missed.candidates[0]["matched"] == ASKED
        assert missed.candidates[0]["guards"]["negation"] != "passed"
        assert missed.doubtful is None
        assert cache.counters()["near_refused"] == 1

    with_near(work)


def test_a_request_that_wants_its_own_question_s_answer_gets_no_other() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        assert isinstance(await look(cache, OTHER_WORDS, near=False), Missed)
        assert isinstance(await look(cache, OTHER_WORDS, mode="refresh"), Missed)
        assert isinstance(await look(cache, OTHER_WORDS, max_age_s=50), Missed)
        assert isinstance(await cache.look_up(question(OTHER_WORDS, tenant="b"), PLAIN), Missed)
        assert isinstance(await cache.look_up(question(OTHER_WORDS, max_tokens=1), PLAIN), Missed)
        assert isinstance(await cache.look_up(question(OTHER_WORDS, stop=["x"]), PLAIN), Missed)

    with_near(work)


def test_without_an_embedder_that_works_questions_are_answered_all_the_same() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        encoder.is_down = True
        missed = await look(cache, OTHER_WORDS)
        assert isinstance(missed, Missed)
        assert missed.keep
        assert "too much waits" in missed.why
        assert isinstance(await look(cache, ASKED), Found)

    with_near(work)


def test_an_edited_or_removed_answer_is_not_given() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        await cache.flush()
        for level in cache.levels:
            store: Any = level.store
            store.kept = {name: replace(row, payload=row.payload + b" ") for name, row in store.kept.items()}
        assert isinstance(await look(cache, OTHER_WORDS), Missed)
        await answered(cache, ASKED)
        await cache.delete(Filter("answer", ""))
        assert isinstance(await look(cache, OTHER_WORDS), Missed)

    with_near(work)


@pytest.mark.parametrize("asked", [OTHER_WORDS, OTHER_WORDS.lower(), OTHER_WORDS.rstrip("?")])
def test_two_questions_that_somebody_told_apart_stay_apart_and_others_are_not_hurt(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        monkeypatch.setattr(cache, "learn", nothing)  # the pair alone keeps them apart
        await answered(cache, ASKED)
        assert isinstance(await look(cache, asked), Found)
        await reject(cache, "", question(ASKED).key, asked=OTHER_WORDS)
        assert isinstance(await look(cache, asked), Missed)
        assert isinstance(await look(cache, ASKED), Found)

    with_near(work)


async def nothing(*args: Any, **named: Any) -> None:
    """Learn nothing."""


def test_the_question_that_was_told_apart_gives_its_answer_to_the_other_neither() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        await reject(cache, "", question(ASKED).key, asked=OTHER_WORDS)
        await answered(cache, OTHER_WORDS, "At the desk.")
        await cache.delete(Filter("answer", "", key=question(ASKED).key))
        assert isinstance(await look(cache, ASKED), Missed)

    with_near(work)


def test_a_rejection_is_learned_from_once_by_the_request_or_the_vectors() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        await cache.flush()
        for _ in range(3):
            await reject(cache, "", question(ASKED).key, asked=OTHER_WORDS)
        (row,) = await cache.rows(Filter("observation", ""))
        assert (row.group, row.fields["right"], row.fields["source"]) == (question(ASKED).key, False, "user")
        assert row.fields["similarity"] == pytest.approx(1.0)
        assert 0 < row.fields["distance"] < 1

    with_near(work)


def test_a_rejection_from_the_command_line_is_there_for_servers_to_learn() -> None:
    store = DictStore("second")
    seen: list[Found] = []

    async def server(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        found = await look(cache, OTHER_WORDS)
        assert isinstance(found, Found)
        decision = Decision("r1", "", "near", found.why, Clock.now_s, OTHER_WORDS, found.entry.id)
        cache.note(replace(decision, candidates=found.candidates))
        seen.append(found)

    async def command_line() -> None:
        cache = AnswerCache([store], SECRET, now=Clock())
        await cache.open()
        await reject(cache, "", question(ASKED).key, asked=OTHER_WORDS, request_id="r1")
        (row,) = await cache.rows(Filter("observation", ""))
        assert (row.group, row.fields["right"]) == (seen[0].entry.key, False)
        assert row.fields["similarity"] == seen[0].candidates[0]["similarity"]
        await cache.close()

    with_near(server, store)
    asyncio.run(command_line())


def test_seventy_one_ratings_of_one_request_make_one_row_and_are_learned_from_twice_at_most() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        found = await look(cache, OTHER_WORDS)
        assert isinstance(found, Found)
        decision = Decision("r1", "", "near", found.why, Clock.now_s, OTHER_WORDS, found.entry.id)
        cache.note(replace(decision, candidates=found.candidates))
        for number in range(71):
            await give_feedback(cache, "", Feedback("r1", "down" if number % 2 else "up"))
        assert len(await cache.rows(Filter("feedback", ""))) == 1
        assert len(await cache.rows(Filter("observation", ""))) == 2

    with_near(work)


def test_what_the_store_let_go_or_somebody_removed_leaves_the_index() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        nearby: Any = cache._nearby
        for text in (ASKED, "Is it on?", "Who are you?"):
            await cache.keep(entry(question(text), vector=packed((await encoder([text]))[0])))
        assert cache.counters()["near_index"]["questions"] == 3
        await cache.delete(Filter("answer", "", key=question("Is it on?").key))
        assert cache.counters()["near_index"]["questions"] == 2
        for level in cache.levels:
            await level.delete(Filter("answer", "", key=question("Who are you?").key))
        await nearby._tidy(cache.levels[-1], Clock.now_s)
        assert [key for _, _, key in nearby._hits.index.names()] == [question(ASKED).key]

    with_near(work)


def test_answers_of_another_model_do_not_fill_the_index() -> None:
    store = DictStore("second")

    async def first(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        await cache.put_now([curated("", "How do I cancel my order?", "By mail.").row()])

    async def second() -> None:
        for model, number in (("m", 2), ("another", 1)):
            cache = AnswerCache([DictStore("first"), store], SECRET, now=Clock())
            cache.use_near(0.05, "all-MiniLM-L6-v2", Encoder(), model)
            await cache.open()
            nearby: Any = cache._nearby
            await nearby._take_in(cache.levels[-1], Filter("answer"), Clock.now_s)
            assert cache.counters()["near_index"]["questions"] == number
            await cache.close()

    with_near(first, store)
    asyncio.run(second())


@pytest.mark.parametrize(("rating", "right"), [("up", True), ("down", False)])
def test_what_people_say_of_a_near_hit_is_learned_and_kept(rating: Any, right: bool) -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        found = await look(cache, OTHER_WORDS)
        assert isinstance(found, Found)
        decision = Decision("r1", "", "near", found.why, Clock.now_s, OTHER_WORDS, found.entry.id)
        cache.note(replace(decision, candidates=found.candidates))
        await give_feedback(cache, "", Feedback("r1", rating))
        (row,) = await cache.rows(Filter("observation", ""))
        assert (row.group, row.fields["right"], row.fields["source"]) == (found.entry.key, right, "user")
        assert isinstance(await look(cache, OTHER_WORDS), Found) is right

    with_near(work)


@pytest.mark.parametrize(("answer", "right"), [("It takes 3 days.", True), ("It takes 5 days.", False)])
def test_what_the_model_says_instead_of_a_doubtful_answer_is_learned(answer: str, right: bool) -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED, "It takes 3 days.")
        missed = await answered(cache, OTHER_WORDS, answer)
        assert missed.doubtful is not None
        await cache.flush()
        (row,) = await cache.rows(Filter("observation", ""))
        assert (row.fields["right"], row.fields["source"]) == (right, "model")

    with_near(work, delta=1e-6)


FRANCE = "The capital of France is Paris."


@pytest.mark.parametrize(
    ("kept", "answer"),
    [
        (FRANCE, "Paris is the capital of France."),
        (FRANCE, "Paris"),
        ("It is 5.0 m long.", "It is 5 m long."),
        ("Yes", "True"),
        ("Yes.", "It does not matter, yes."),
        ("Five of them", "5"),
        ("x " * 41000, "y " * 41000),
    ],
    ids=lambda text: text[:20],
)
def test_answers_that_cannot_be_told_apart_for_sure_teach_nothing(kept: str, answer: str) -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED, kept)
        missed = await answered(cache, OTHER_WORDS, answer)
        assert missed.doubtful is not None
        await cache.flush()
        assert await cache.rows(Filter("observation", "")) == []

    with_near(work, delta=1e-6)


def test_a_long_answer_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(one: str, other: str) -> bool:
        raise AssertionError("it takes a second, on the event loop")

    monkeypatch.setattr(nearby_module, "compared", refuse)

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED, "word " * 16000)
        assert (await answered(cache, OTHER_WORDS, "words " * 16000)).doubtful is not None

    with_near(work, delta=1e-6)


def test_answers_are_read_beside_the_event_loop_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def noted(one: str, other: str) -> bool | None:
        threads.append(threading.current_thread() is threading.main_thread())
        before = read.cache_info().currsize
        said = compared(one, other)
        assert read.cache_info().currsize == before
        return said

    monkeypatch.setattr(nearby_module, "compared", noted)

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED, FRANCE)
        await answered(cache, OTHER_WORDS, "Paris is the capital of France.")

    with_near(work, delta=1e-6)
    assert threads == [False]


def test_what_people_wrote_is_not_judged_by_what_a_model_says() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        written = curated("", ASKED, "It takes 3 days.")
        await cache.put_now([written.row()])
        nearby_: Any = cache._nearby
        await nearby_._take_in(cache.levels[-1], Filter("answer"), Clock.now_s)
        missed = await answered(cache, OTHER_WORDS, "It takes 5 days.")
        assert missed.doubtful is not None
        await cache.flush()
        assert await cache.rows(Filter("observation", "")) == []

    with_near(work, delta=1e-6)


def test_an_answer_too_long_for_the_encoder_is_no_error_of_the_question() -> None:
    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED, "It takes two days.")
        missed = await cache.look_up(question(OTHER_WORDS), PLAIN)
        assert isinstance(missed, Missed)
        assert missed.doubtful is not None
        encoder.is_down = True
        await cache.compare(question(OTHER_WORDS), missed, "It takes 2 days.")
        assert cache.counters()["errors"] == 1

    with_near(work, delta=1e-6)


def test_what_others_keep_in_the_same_store_and_people_wrote_is_found_after_a_while() -> None:
    store = DictStore("second")

    async def first(cache: AnswerCache, encoder: Encoder) -> None:
        await answered(cache, ASKED)
        await cache.put_now([curated("", "How do I cancel my order?", "By mail.").row()])

    async def second(cache: AnswerCache, encoder: Encoder) -> None:
        nearby: Any = cache._nearby
        for kind in ("answer", "observation"):
            await nearby._take_in(cache.levels[-1], Filter(kind), Clock.now_s)
        found = await look(cache, OTHER_WORDS)
        assert isinstance(found, Found)
        assert found.path == "near"
        written = await look(cache, "How can I cancel my order?")
        assert isinstance(written, Found)
        assert written.entry.answer == "By mail."

    with_near(first, store)
    with_near(second, store)


def test_a_full_index_has_the_latest_answers_in_whatever_order_they_are_taken_in() -> None:
    index = NearIndex(max_bytes=1500)
    cache = AnswerCache([DictStore()], SECRET, now=Clock())
    cache.use_near(0.05, "all-MiniLM-L6-v2", Encoder())
    nearby: Any = cache._nearby
    nearby._hits.index = index
    vector = packed(np.ones(32, np.float32))
    for age_s in (0.0, 10.0, 20.0, 30.0):  # as a store is read: the newest first
        made = entry(question(f"Is it on after {age_s}?"), vector=vector)
        nearby.add(replace(made, created_s=Clock.now_s - age_s).row())
    assert [key for _, _, key in index.names()] == [question(f"Is it on after {age_s}?").key for age_s in (0.0, 10.0)]
    assert (index.num_dropped, index.num_refused) == (0, 2)


async def told(cache: AnswerCache) -> None:
    """What the store has is taken in, as it is now and then."""
    nearby: Any = cache._nearby
    for kind in ("answer", "observation"):
        await nearby._take_in(cache.levels[-1], Filter(kind), Clock.now_s)


def bare(text: str, created_s: float, answer: str = "By mail.") -> Any:
    """A row as another process without an embedder keeps it."""
    return replace(entry(question(text), answer), created_s=created_s).row().sealed(SECRET)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_an_answer_that_is_taken_out_while_its_vector_is_made_does_not_come_back(change: str) -> None:
    store = DictStore("second")

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await told(cache)
        name = ("answer", "", question(ASKED).key)
        await store.put([bare(ASKED, Clock.now_s)])
        nearby: Any = cache._nearby

        async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            del store.kept[name]  # type: ignore[arg-type]
            if change == "replaced":
                await store.put([bare(ASKED, Clock.now_s, "New.")])
            return await encoder(texts)

        nearby._embed = embed
        await told(cache)
        await cache.flush()
        nearby._embed = encoder
        if change == "deleted":
            assert name not in store.kept
            assert isinstance(await look(cache, OTHER_WORDS), Missed)
        else:
            assert store.kept[name].fields["answer"] == "New."  # type: ignore[index]

    with_near(work, store)


def test_a_row_that_is_older_than_the_newest_but_comes_later_is_found() -> None:
    store = DictStore("second")

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await store.put([bare("Where is the shop?", Clock.now_s)])
        await told(cache)
        await cache.flush()
        await store.put([bare(ASKED, Clock.now_s - 30)])
        await told(cache)
        assert isinstance(await look(cache, OTHER_WORDS), Found)
        num_texts = encoder.num_texts
        await told(cache)
        assert encoder.num_texts == num_texts  # what is known is not taken in again

    with_near(work, store)


def test_a_row_from_the_future_does_not_hide_those_of_today() -> None:
    store = DictStore("second")

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        await store.put([bare("Where is the shop?", Clock.now_s + 1e6)])
        await told(cache)
        await store.put([bare(ASKED, Clock.now_s)])
        await told(cache)
        assert isinstance(await look(cache, OTHER_WORDS), Found)

    with_near(work, store)


def test_an_observation_that_is_met_again_is_learned_once_and_only_so_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nearby_module, "MAX_SEEN", 3)

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        nearby: Any = cache._nearby
        learned: list[Any] = []
        plain = nearby._hits.learn
        monkeypatch.setattr(nearby._hits, "learn", lambda row: (learned.append(row.key), plain(row)))
        candidate = {"entry": question(ASKED).key.hex(), "similarity": 0.9, "distance": 0.2}
        for _ in range(3):
            await cache.learn("", candidate, right=True, source="user")
        await cache.flush()
        await told(cache)
        await told(cache)
        assert len(learned) == 3
        for _ in range(3):
            await cache.learn("", candidate, right=True, source="user")
        assert len(nearby._seen) == 3

    with_near(work)


def test_a_question_that_the_encoder_cannot_read_does_not_keep_the_others_out() -> None:
    store = DictStore("second")

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        nearby: Any = cache._nearby

        async def embed(texts: Sequence[str]) -> NDArray[np.float32]:
            if any("long" in text for text in texts):
                raise ContextLengthError("it is too long.")
            return await encoder(texts)

        nearby._embed = embed
        await store.put([bare("A long one?", Clock.now_s), bare(ASKED, Clock.now_s)])
        await told(cache)
        assert isinstance(await look(cache, OTHER_WORDS), Found)

    with_near(work, store)


def test_an_error_that_nobody_expected_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearby_module, "REFRESH_S", 0.0)
    store = DictStore("second")

    async def work(cache: AnswerCache, encoder: Encoder) -> None:
        plain, faults = store.rows, 3

        async def rows(*args: Any, **options: Any) -> Any:
            nonlocal faults
            if faults > 0:
                faults -= 1
                raise ValueError("nobody thought of this")
            return await plain(*args, **options)

        monkeypatch.setattr(store, "rows", rows)
        await store.put([bare(ASKED, Clock.now_s)])
        async with asyncio.timeout(60):
            while isinstance(await look(cache, OTHER_WORDS), Missed):
                await asyncio.sleep(0)

    with_near(work, store)
