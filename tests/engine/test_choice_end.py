"""An answer ends where it has named its choice, and not where it only thinks about one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine import choice_end
from miaotui.engine.choice_end import ChoiceEnd

LETTERS = ("A", "B", "C", "D")
NAMED = [
    (LETTERS, "B) Paris, of course", "B)", "B"),
    (LETTERS, "B. Paris", "B", "B"),
    (LETTERS, "B\nBecause", "B", "B"),
    (LETTERS, "**C**: it is", "**C**", "C"),
    (LETTERS, "Let me think. The answer is (D) since", "Let me think. The answer is (D)", "D"),
    (LETTERS, "Answer: B because", "Answer: B", "B"),
    (LETTERS, "Final answer:\n\n`A`.", "Final answer:\n\n`A`", "A"),
    (LETTERS, "My choice is C, since", "My choice is C", "C"),
    (LETTERS, "答案是B。因为", "答案是B", "B"),
    (LETTERS, "答案：（C）因为", "答案：（C）", "C"),
    (LETTERS, "我选A，因为", "我选A", "A"),
    (LETTERS, "The answer is A or B. Answer: A.", "The answer is A or B. Answer: A", "A"),
    (("yes", "no"), "Yes, it is.", "Yes", "yes"),
    (("positive", "negative"), "The answer is positive here", "The answer is positive", "positive"),
    (("positive", "negative"), "Positive.", "Positive", "positive"),
    (("new", "new york"), "Answer: New York City", "Answer: New York", "new york"),
    (("new", "new york"), "Answer: new yams", "Answer: new", "new"),
    (("3", "4", "12"), "Answer: 12, for", "Answer: 12", "12"),
    (("3", "4"), "The answer is 3.5; no, the answer is 4.\n", "The answer is 3.5; no, the answer is 4", "4"),
    (("是", "否"), "是的。答案是否，", "是的。答案是否", "否"),
]
UNNAMED = [
    (LETTERS, "A good question. Option B says that, and option C as well."),
    (LETTERS, "The answer isn't A. The answer is not B. The answer is either C"),
    (LETTERS, "The answers: A, B"),
    (LETTERS, "Bears live there"),
    (LETTERS, "Answer: B or maybe not"),
    (LETTERS, "The answer is A"),
    (LETTERS, "The answer is A matter"),
    (LETTERS, "the answer is a matter of taste"),
    (LETTERS, "Answer: A, B and C"),
    (LETTERS, "Answer: A/B, answer: A-B"),
    (LETTERS, "Answer: B's"),
    (("positive", "negative"), "Positive aspects are many, it is positive."),
    (("no", "yes"), "Nobody knows. Not yet, no."),
    (("3", "4"), "The answer is 3.5 or 34, the answer is 3:4 "),
]


def ended(choices: tuple[str, ...], parts: list[str]) -> tuple[int | None, str]:
    """Where the answer ends, and with which choice. What may be shown is never taken back."""
    watch, seen, shown = ChoiceEnd(choices), 0, 0
    for part in parts:
        seen += len(part)
        held = watch.push(part)
        if watch.end is not None:
            assert watch.end >= shown
            return watch.end, watch.reason
        assert 0 <= held <= seen - shown
        shown = seen - held
    return None, ""


@pytest.mark.parametrize(("choices", "text", "answer", "choice"), NAMED)
def test_it_ends_behind_the_choice_that_is_named(choices: tuple[str, ...], text: str, answer: str, choice: str) -> None:
    whole = text + " More text follows here."
    for parts in ([whole], list(whole)):
        end, named = ended(choices, parts)
        assert (whole[:end] if end else None, named) == (answer, choice)


@pytest.mark.parametrize(("choices", "text"), UNNAMED)
def test_a_choice_that_is_only_thought_about_ends_nothing(choices: tuple[str, ...], text: str) -> None:
    assert ended(choices, [text]) == ended(choices, list(text)) == (None, "")


@pytest.mark.parametrize(("choices", "text", "answer", "choice"), [
    *((choices, answer, answer, choice) for choices, _, answer, choice in NAMED),
    (LETTERS, "The answer is A", "The answer is A", "A"),
    (LETTERS, "A \n", "A", "A"),
    (LETTERS, "Answer: A, ", "Answer: A", "A"),
    (("new", "new york"), "Answer: new y", "Answer: new", "new"),
    (LETTERS, "The answer is", None, ""),
    (LETTERS, "Answer: A or", None, ""),
    (LETTERS, "The answer is the answer: B", "The answer is the answer: B", "B"),
])  # fmt: skip
def test_with_the_text_the_choice_is_decided(
    choices: tuple[str, ...], text: str, answer: str | None, choice: str
) -> None:
    for parts in ([text], list(text)):
        watch, seen, shown = ChoiceEnd(choices), 0, 0
        for part in parts:
            seen += len(part)
            shown = seen - watch.push(part)
        if watch.end is None:
            watch.finish(cut=True)
            assert watch.end is None, "more might have taken it back"
            watch.finish(cut=False)
            assert watch.end is None or watch.end >= shown
        assert (None if watch.end is None else text[: watch.end], watch.reason) == (answer, choice)


LONG = tuple(f"{'答案' * 25}{number:02}xxxxxxxxxxxx" for number in range(64))


@pytest.mark.parametrize("said", ["the answer is ", "选", "答案", LONG[0][:-1]])
def test_each_sign_is_folded_once_and_few_places_are_looked_at(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    num_folded, num_looks = [], []
    folded, named = choice_end._folded, ChoiceEnd._named
    monkeypatch.setattr(choice_end, "_folded", lambda text: [num_folded.append(len(text)), folded(text)][1])
    monkeypatch.setattr(ChoiceEnd, "_named", lambda *args, **how: [num_looks.append(1), named(*args, **how)][1])
    text = said * (4000 // len(said))
    watch = ChoiceEnd(LONG)
    for sign in text:
        watch.push(sign)
    assert watch.end is None
    assert sum(num_folded) == sum(map(len, LONG)) + len(text)
    assert len(num_looks) <= 2 * len(text) + 100


WORDS = st.sampled_from(
    [*LETTERS, "A good", "answer", "The answer is", "choice is", "or", " ", ", ", ": ", ".", "\n", "**", "(", ")", "'",
     "答案是", "x", "1", "answer is answer", "İß", " " * 60, "and"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=20), st.lists(st.integers(0, 120), max_size=10))
def test_pieces_make_no_difference(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    parts = [text[a:b] for a, b in pairwise(places)]
    assert ended(LETTERS, parts) == ended(LETTERS, list(text)) == ended(LETTERS, [text] if text else [])


@given(st.lists(st.sampled_from(["cat", " ", "the ", "answering ", "1", "是"]), max_size=40), st.sampled_from(LETTERS))
def test_what_comes_before_an_announcement_does_not_matter(words: list[str], choice: str) -> None:
    text = "So " + "".join(words) + f"\nAnswer: ({choice})"
    assert ended(LETTERS, list(text + ", as")) == (len(text), choice)


def test_what_is_kept_of_a_long_text_is_bounded() -> None:
    watch = ChoiceEnd(("yes", "no way"))
    for _ in range(2000):
        assert watch.push("I wonder what the answer might be, yes or no. ") < 100
    assert len(watch._text) < 400
    watch.push("The answer is no way!")
    assert watch.reason == "no way"
