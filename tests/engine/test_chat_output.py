"""Reasoning, text and calls of tools are told apart, however the text is cut, and nothing of it is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.engine.chat_output import CallArguments, CallStart, ChatOutput, Reasoning, Text
from miaotui.engine.tools import GENERIC, HERMES, LLAMA3, ToolFormat

CALL = '{"name": "weather", "arguments": {"city": "Rome {\\"x\\"}", "days": [1, 2]}}'
ARGUMENTS = '{"city": "Rome {\\"x\\"}", "days": [1, 2]}'
SECOND = '{"name": "time", "arguments": {}}'

CASES: dict[str, tuple[ToolFormat | None, str, dict[str, Any]]] = {
    "plain text": (None, "Hello <b> & {x}", {"text": "Hello <b> & {x}"}),
    "white space at the ends": (None, "  Hello \n", {"text": "  Hello \n"}),
    "nothing but space": (None, " \n", {"text": " \n"}),
    "reasoning": (None, "<think>\nHm, 2 < 3.\n</think>\n\nFour.", {"reasoning": "\nHm, 2 < 3.", "text": "Four."}),
    "no reasoning": (None, "<think></think>Four.", {"text": "Four."}),
    "unfinished reasoning": (None, "<think>Hm </thi", {"reasoning": "Hm </thi"}),
    "a mark that is none": (None, "<thinker> 3", {"text": "<thinker> 3"}),
    "think later on": (None, "I <think> so</think>", {"text": "I <think> so</think>"}),
    "hermes": (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", {"calls": [("weather", ARGUMENTS)]}),
    "hermes behind text": (
        HERMES,
        f"I look.\n\n<tool_call>\n{CALL}\n</tool_call>\n",
        {"text": "I look.", "calls": [("weather", ARGUMENTS)]},
    ),
    "two calls": (
        HERMES,
        f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>{SECOND}</tool_call>",
        {"calls": [("weather", ARGUMENTS), ("time", "{}")]},
    ),
    "text behind a call": (
        HERMES,
        f"<tool_call>{SECOND}</tool_call>\nDone.",
        {"calls": [("time", "{}")], "text": "\nDone."},
    ),
    "reasoning, then a call": (
        HERMES,
        f"<think>ok</think>\n<tool_call>{SECOND}</tool_call>",
        {"reasoning": "ok", "calls": [("time", "{}")]},
    ),
    "arguments first": (
        HERMES,
        '<tool_call>{"arguments": {"a": 1}, "name": "time"}</tool_call>',
        {"calls": [("time", '{"a": 1}')]},
    ),
    "arguments as text": (
        HERMES,
        '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}</tool_call>',
        {"calls": [("time", '{"a": 1}')]},
    ),
    "no arguments": (HERMES, '<tool_call>{"name": "time"}</tool_call>', {"calls": [("time", "{}")]}),
    "cut off in a call": (
        HERMES,
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Ro',
        {"calls": [("weather", '{"city": "Ro')]},
    ),
    "cut off before a call is one": (HERMES, '<tool_call>\n{"name": "wea', {"text": '<tool_call>\n{"name": "wea'}),
    "no call at all": (
        HERMES,
        "Write <tool_call>me</tool_call> now",
        {"text": "Write <tool_call>me</tool_call> now"},
    ),
    "the end mark is missing": (HERMES, f"<tool_call>{CALL} yes", {"calls": [("weather", ARGUMENTS)], "text": "yes"}),
    "the beginning of a mark": (HERMES, "a <tool", {"text": "a <tool"}),
    "llama": (LLAMA3, '{"name": "time", "parameters": {"a": 1}}', {"calls": [("time", '{"a": 1}')]}),
    "llama with a tag": (LLAMA3, '<|python_tag|>{"name": "time", "parameters": {}}', {"calls": [("time", "{}")]}),
    "llama twice": (
        LLAMA3,
        '{"name": "time", "parameters": {}}; {"name": "weather", "parameters": {"a": 2}}',
        {"calls": [("time", "{}"), ("weather", '{"a": 2}')]},
    ),
    "llama with a type": (
        LLAMA3,
        '{"type": "function", "name": "time", "parameters": {}}',
        {"calls": [("time", "{}")]},
    ),
    "wrapped like OpenAI's": (
        GENERIC,
        '{"type": "function", "function": {"name": "time", "arguments": {"a": 1}}}',
        {"calls": [("time", '{"a": 1}')]},
    ),
    "JSON that is no call": (GENERIC, '{"city": "Rome"} is it', {"text": '{"city": "Rome"} is it'}),
    "a name that is no tool's": (
        GENERIC,
        '{"name": "Ann", "arguments": {}}',
        {"text": '{"name": "Ann", "arguments": {}}'},
    ),
    "a person": (GENERIC, '{"name": "Ann", "age": 3}', {"text": '{"name": "Ann", "age": 3}'}),
    "broken JSON": (GENERIC, '{"name": "time", "arguments": 3', {"text": '{"name": "time", "arguments": 3'}),
    "text, then JSON": (GENERIC, f"Call: {SECOND}", {"text": f"Call: {SECOND}"}),
}


def read(
    style: ToolFormat | None, parts: list[str], *, reasoning: bool = False, several: bool = True
) -> dict[str, Any]:
    output = ChatOutput(style, ("weather", "time"), reasoning=reasoning, several=several)
    pieces = [piece for part in parts for piece in output.push(part)] + output.finish()
    found: dict[str, Any] = {}
    for piece in pieces:
        if isinstance(piece, Text):
            found["text"] = found.get("text", "") + piece.text
        elif isinstance(piece, Reasoning):
            found["reasoning"] = found.get("reasoning", "") + piece.text
        elif isinstance(piece, CallStart):
            assert piece.index == len(found.setdefault("calls", []))
            found["calls"].append((piece.name, ""))
        else:
            assert isinstance(piece, CallArguments)
            assert piece.index == len(found["calls"]) - 1
            name, text = found["calls"][-1]
            found["calls"][-1] = (name, text + piece.text)
    return found


@pytest.mark.parametrize("name", CASES)
def test_whole_and_letter_by_letter_give_the_same(name: str) -> None:
    style, text, expected = CASES[name]
    assert read(style, [text]) == expected
    assert read(style, list(text)) == expected


@pytest.mark.parametrize(
    ("style", "first", "rest"),
    [
        (LLAMA3, '{"name": "time", "parameters": {}}', '; {"name": "weather", "parameters": {"a": 2}}'),
        (HERMES, '<tool_call>{"name": "time", "arguments": {}}</tool_call>', f"<tool_call>{CALL}</tool_call>"),
    ],
)
def test_where_one_call_is_allowed_what_looks_like_another_is_text(style: ToolFormat, first: str, rest: str) -> None:
    for parts in ([first + rest], list(first + rest)):
        assert read(style, parts, several=False) == {"calls": [("time", "{}")], "text": rest}
        assert len(read(style, parts)["calls"]) == 2


@given(st.sampled_from(sorted(CASES)), st.data())
def test_where_the_text_is_cut_makes_no_difference(name: str, data: st.DataObject) -> None:
    style, text, expected = CASES[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(style, parts) == expected


MARKS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    '{"name": "time"',
    ', "arguments": ',
    ', "id": "}"',
    "{}",
    "}",
    "; ",
    "x",
]


@given(st.sampled_from([None, HERMES, LLAMA3, GENERIC]), st.lists(st.sampled_from(MARKS), max_size=8))
def test_any_mixture_of_marks_reads_the_same_in_any_pieces(style: ToolFormat | None, marks: list[str]) -> None:
    text = "".join(marks)
    assert read(style, list(text)) == read(style, [text])


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ("{}", {"text": "{}"}),
        (', "id": "}"}', {}),
        (', "id": "}"} x', {"text": " x"}),
        (', "id": 1', {"text": ', "id": 1'}),
        (" x", {"text": " x"}),
        ("} x", {"text": " x"}),
    ],
)
@pytest.mark.parametrize("style", [LLAMA3, GENERIC])
def test_nothing_behind_a_call_is_lost(style: ToolFormat, behind: str, expected: dict[str, str]) -> None:
    text = '{"name": "time", "arguments": {}' + behind
    for parts in ([text], list(text)):
        assert read(style, parts) == {"calls": [("time", "{}")], **expected}


def test_a_prompt_may_end_inside_the_reasoning() -> None:
    assert read(None, ["Hm.\n</th", "ink>\nFour."], reasoning=True) == {"reasoning": "Hm.", "text": "Four."}


def test_arguments_are_passed_on_while_they_are_written() -> None:
    output = ChatOutput(HERMES, ["weather"])
    assert output.push('<tool_call>\n{"name": "weather", "arguments": {"ci') == [
        CallStart(0, "weather"),
        CallArguments(0, '{"ci'),
    ]
    assert output.push('ty": "Rome"') == [CallArguments(0, 'ty": "Rome"')]
    assert output.push("}}\n</tool_call>") == [CallArguments(0, "}")]
    assert output.finish() == []


def test_arguments_that_hold_the_end_mark_go_on() -> None:
    text = json.dumps({"name": "time", "arguments": {"a": "</tool_call>}"}})
    assert read(HERMES, [f"<tool_call>{text}</tool_call>"]) == {"calls": [("time", '{"a": "</tool_call>}"}')]}
