"""What counts as right."""

from __future__ import annotations

import pytest

from compress.compare.fake import FakeModel
from miaotui.compress.evaluate import solve as module
from miaotui.compress.evaluate.items import Item, Task
from miaotui.compress.evaluate.solve import plain, solve
from miaotui.errors import ContextLengthError, TaskFileError


def follower(model: FakeModel, letter: str, rank: int = 0) -> str:
    """The rank-likeliest letter behind one."""
    row = model.table[model.encode(letter)[0]]
    return model.token_bytes(int(row.argsort()[-1 - rank])).decode()


@pytest.fixture
def model() -> FakeModel:
    return FakeModel("a", seed=1)


def test_the_likeliest_choice_is_taken(model: FakeModel) -> None:
    best, third = follower(model, "a"), follower(model, "a", 2)
    items = [Item(1, "a", (third, best), 1), Item(2, "a", (best, third), 1)] * 20
    got = solve(model, Task("t", "choice", tuple(items)), most_tokens=5)
    assert got.right == (True, False) * 20
    assert got.accuracy == 0.5
    assert got.interval[0] < 0.5 < got.interval[1]
    assert got.target_loss is None


def test_long_choices_have_their_due_by_length(model: FakeModel) -> None:
    a, b, c, d = model.encode("abcd")
    model.table[:] = 0
    model.table[a, [b, c]] = 3, 2.5
    model.table[[c, d], d] = 10
    got = solve(model, Task("t", "choice", (Item(1, "a", ("b", "cdd"), 1),)), most_tokens=5)
    assert got.by_length == (True,)
    assert got.right == (False,)


def test_a_word_counts_where_every_token_is_the_likeliest(model: FakeModel) -> None:
    best = follower(model, "a")
    items = (Item(1, "a", (best + follower(model, best),)), Item(2, "a", (best + follower(model, best, 1),)))
    got = solve(model, Task("t", "cloze", items), most_tokens=5)
    assert got.right == (True, False)
    assert got.target_loss is not None
    assert got.target_loss > 0


def test_exact_answers_are_found_and_compared_without_trifles(model: FakeModel) -> None:
    model.answers = {"x?": "the answer is no more", "y?": "So it is."}
    items = (
        Item(1, "x", answer="NO more", regex="is (.*)"),
        Item(2, "x", answer="is no more", regex="is .*"),
        Item(3, "x", answer="5", regex=r"\d"),
        Item(4, "y", answer='"so  it is"'),
        Item(5, "y", answer="so"),
    )
    assert solve(model, Task("t", "exact", items), most_tokens=50).right == (True, True, False, True, False)
    assert plain(" “A  b.” ") == "a b"


def test_a_regex_that_never_ends_is_named(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_S", 1.0)
    model.answers["x?"] = "a" * 40 + "b"
    items = (Item(1, "x", answer="a", regex="a"), Item(7, "x", answer="a", regex="(a+)+$"))
    with pytest.raises(TaskFileError, match='line 7: "regex" takes more than'):
        solve(model, Task("t", "exact", items), most_tokens=100)


def test_a_question_that_is_too_long_is_named(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> list[int]:
        raise ContextLengthError("too long")

    monkeypatch.setattr(model, "encode", refuse)
    with pytest.raises(TaskFileError, match="task t, lines 4 to 4: a question is too long"):
        solve(model, Task("t", "cloze", (Item(4, "a", ("b",)),)), most_tokens=5)
