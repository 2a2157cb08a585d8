"""A watch sees the answer and nothing of the reasoning before it, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.behind_reasoning import BehindReasoning
from miaotui.engine.json_end import JsonEnd

PARTS = st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", "<", ">", "\n", " ", "{}", "[1]", "{", "so", "`"])
CUTS = st.lists(st.integers(0, 80), max_size=10)


def ended(parts: list[str], *, inside: bool) -> int | None:
    """Where the answer ends. What may be shown is never taken back."""
    watch, seen, shown = BehindReasoning(JsonEnd(), inside=inside), 0, 0
    for part in parts:
        seen += len(part)
        held = watch.push(part)
        if watch.end is not None:
            break
        assert 0 <= held <= seen - shown
        shown = seen - held
    else:
        watch.finish(cut=False)
    assert watch.end is None or watch.end >= shown
    return watch.end


def expected(text: str, *, inside: bool) -> int | None:
    """Told from the whole text."""
    rest = text
    while True:
        if inside:
            if "</think>" not in rest:
                return None
            rest = rest.partition("</think>")[2]
        rest = rest.lstrip()
        inside = rest.startswith("<think>")
        if not inside:
            break
        rest = rest.removeprefix("<think>")
    watch = JsonEnd()
    watch.push(rest)
    if watch.end is None:
        watch.finish(cut=False)
    return None if watch.end is None else len(text) - len(rest) + watch.end


@given(st.lists(PARTS, max_size=12).map("".join), CUTS, st.booleans())
def test_pieces_make_no_difference_and_reasoning_ends_nothing(text: str, cuts: list[int], inside: bool) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    wanted = expected(text, inside=inside)
    assert ended(pieces, inside=inside) == ended(list(text), inside=inside) == wanted


@pytest.mark.parametrize(
    ("text", "inside", "answer"),
    [
        ("<think>{}</think>[]x", False, "<think>{}</think>[]"),
        (" \n<think>{}</think>\n<think>[]</think>\n\n[]x", False, " \n<think>{}</think>\n<think>[]</think>\n\n[]"),
        ("{} is it</think>[]x", True, "{} is it</think>[]"),
        ("{} is it</think>[]x", False, "{}"),
        ("So <think>{}</think>[]", False, "So <think>{}"),
        ("<thinker>{}x", False, "<thinker>{}"),
        ("<think>{}", False, None),
        ("{}</thin", True, None),
    ],
)
def test_only_blocks_at_the_beginning_are_reasoning(text: str, inside: bool, answer: str | None) -> None:
    end = ended(list(text), inside=inside)
    assert (None if end is None else text[:end]) == answer


def test_what_is_kept_of_long_reasoning_is_bounded() -> None:
    watch = BehindReasoning(JsonEnd())
    watch.push(" " * 5000 + "<think>")
    for _ in range(1000):
        assert watch.push("so {} it is </thin") == 0
        assert len(watch._held) < len("</think>")
