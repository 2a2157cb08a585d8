"""An answer ends exactly where its first JSON object or array does, in whatever pieces it comes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.json_end import MAX_DEPTH, JsonEnd

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
).filter(lambda value: isinstance(value, (list, dict)))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="{[`"), max_size=30)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[a:b] for a, b in pairwise(places)] or [""]


def end_of(parts: list[str]) -> int | None:
    """Where the answer ends. What may be shown is never taken back."""
    watch, seen = JsonEnd(), 0
    shown = 0
    for part in parts:
        seen += len(part)
        held = watch.push(part)
        assert watch.end is None or watch.end >= shown
        if watch.end is not None:
            assert held == 0
            return watch.end
        assert 0 <= held <= seen - shown
        shown = seen - held
    return None


@given(WORDS, VALUES, st.sampled_from([None, 1]), st.booleans(), st.text(max_size=20), CUTS)
def test_it_ends_with_the_value_and_not_with_what_is_around_it(
    before: str, value: Any, indent: int | None, ascii: bool, behind: str, cuts: list[int]
) -> None:
    text = before + json.dumps(value, indent=indent, ensure_ascii=ascii, allow_nan=False)
    assert end_of(pieces(text + behind, cuts)) == len(text)


@given(
    WORDS, VALUES, st.sampled_from(["```json\n", "```\n", "``` JSON\n\n  "]), st.sampled_from(["\n", "", "\n \n"]), CUTS
)
def test_a_fence_belongs_to_the_value_it_is_around(
    before: str, value: Any, opening: str, gap: str, cuts: list[int]
) -> None:
    text = f"{before}\n{opening}{json.dumps(value, indent=1)}{gap}```"
    assert end_of(pieces(text + "\nThat is all: {}", cuts)) == len(text)


@given(VALUES, st.data())
def test_an_unfinished_value_never_ends(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    assert end_of([text[: data.draw(st.integers(0, len(text) - 1))]]) is None


@given(st.text('{}[]",:0123456789.eE+-truefalsn\\u \n`a', max_size=60), CUTS)
def test_what_ends_is_json_and_pieces_make_no_difference(text: str, cuts: list[int]) -> None:
    end = end_of([text])
    assert end == end_of(pieces(text, cuts)) == end_of(list(text))
    if end is not None:
        value_end = end - 3 if text[:end].endswith("```") else end
        assert any(is_json(text[begin:value_end].rstrip()) for begin, sign in enumerate(text) if sign in "{[")


def is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=lambda name: pytest.fail(name))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('Sure: {"a": [1, {"b": "}"}]} and so on', 'Sure: {"a": [1, {"b": "}"}]}'),
        ("see [here] or {x}: [1, 2] ok", "see [here] or {x}: [1, 2]"),
        ("[1, 2", None),
        ("{[1] ok", "{[1]"),
        ("{'a': 1} {}", "{'a': 1} {}"),
        ('{"a": 01} [2]', '{"a": 01} [2]'),
        ("[1,] []", "[1,] []"),
        ('{"a" 1} {"a": "\\u12"} {"a": "\\u12ab"}x', '{"a" 1} {"a": "\\u12"} {"a": "\\u12ab"}'),
        ("[-] [+1] [.5] [1.] [1e] [1e+] [1.5e-3]x", "[-] [+1] [.5] [1.] [1e] [1e+] [1.5e-3]"),
        ("[nul] [tru] [NaN] [true]", "[nul] [tru] [NaN] [true]"),
        ('["\n"] ["\\n"]x', '["\n"] ["\\n"]'),
        ("```json\n{}\n```\nMore", "```json\n{}\n```"),
        ("```json\n{} x\n```", "```json\n{}"),
        ("`{}` is empty", "`{}"),
    ],
)
def test_what_is_no_json_is_text(text: str, answer: str | None) -> None:
    for parts in ([text], list(text)):
        end = end_of(parts)
        assert (None if end is None else text[:end]) == answer


def test_what_is_nested_too_deeply_is_text() -> None:
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert end_of([deepest]) == len(deepest)
    watch = JsonEnd()
    watch.push("[" * 100_000)
    assert watch.end is None
    reader = watch._reader
    assert reader is None or len(reader._open) <= MAX_DEPTH


@pytest.mark.parametrize("behind", ["", "\n", " \n`", "\n``"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_fence_that_is_never_closed_is_not_waited_for_any_longer(behind: str, *, cut: bool) -> None:
    watch = JsonEnd()
    watch.push("```json\n{}" + behind)
    assert watch.end is None
    watch.finish(cut=cut)
    assert watch.end == len("```json\n{}")
    watch = JsonEnd()
    watch.push("```json\n[1, {}" + behind)
    watch.finish(cut=cut)
    assert watch.end is None


def test_what_a_fence_may_hold_back_is_bounded() -> None:
    watch = JsonEnd()
    watch.push("```json\n{}")
    held = [watch.push(" ") for _ in range(40) if watch.end is None]
    assert watch.end == len("```json\n{}")
    assert max(held) < 30
