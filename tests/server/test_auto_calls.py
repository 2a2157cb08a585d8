"""Calls under `tool_choice: "auto"`, which a model makes of its own accord: parsed, and kept to their schemas.

The tiny model says noise and would never begin a call, so its first tokens are chosen for it. What is behind them is
its own, as far as the grammar lets it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import jsonschema
import openai
import pytest

from engine.tiny_model import SPECIAL, TURN_END
from miaotui.engine.sampling import make_sampler
from server.test_tools import (
    ANTHROPIC_TOOL,
    ASK,
    FORCED,
    HERMES_TEMPLATE,
    LLAMA3_TEMPLATE,
    NOTE,
    PARAMETERS,
    WEATHER,
    client_of,
)

END = "</tool_call>"
OFFERED: dict[str, Any] = FORCED | {
    "tools": [WEATHER, NOTE],
    "tool_choice": "auto",
}
ARGUMENTS = '{"city": "Rome", "days": 3}'
LLAMA3_CALL = f'{{"name": "weather", "parameters": {ARGUMENTS}}}'


def ids_of(text: str) -> list[int]:
    """A token for each byte; a zero ends the turn."""
    return [len(SPECIAL) + byte if byte else TURN_END for byte in text.encode()]


class Beginning:
    """A sampler that says one text at once, the others behind its calls, each as far as a grammar lets it.

    What comes behind them is what the model says.
    """

    def __init__(self, sampler: Any, texts: tuple[str, ...]) -> None:
        self._sampler = sampler
        self._texts = [ids_of(text) for text in texts]
        self._next: list[int] = []
        self._said: list[int] = []  # what a grammar forces, too, for which nobody asks a sampler

    def sample(self, logits: Any, row: int, allowed: Any = None) -> int:
        if self._texts and (not self._said or self._said[-len(END) :] == ids_of(END)):
            self._next = self._texts.pop(0)
        if not self._next:
            return int(self._sampler.sample(logits, row, allowed))
        token_id = self._next.pop(0)
        if allowed is not None and not allowed[token_id // 32] >> (token_id % 32) & 1:
            self._next = []
            return self.sample(logits, row, allowed)
        return token_id

    def accept(self, token_id: int) -> None:
        self._said.append(token_id)
        self._sampler.accept(token_id)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has answers begin with a text, and go on with the others behind their calls."""

    def say(*texts: str) -> None:
        def make(*arguments: Any, **options: Any) -> Beginning:
            return Beginning(make_sampler(*arguments, **options), texts)

        monkeypatch.setattr("miaotui.engine.engine.make_sampler", make)

    return say


def whole(client: openai.OpenAI, **asked: Any) -> tuple[str, list[tuple[str, str]]]:
    """Text and calls of an answer that came at once and, the same, part by part."""
    (choice,) = client.chat.completions.create(**asked).choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    text, streamed, reasons = "", list[tuple[str, str]](), []
    for chunk in client.chat.completions.create(**asked, stream=True):
        (part,) = chunk.choices
        text += part.delta.content or ""
        reasons += [part.finish_reason] if part.finish_reason else []
        for call in part.delta.tool_calls or ():
            if call.id is not None:
                assert call.index == len(streamed)
                streamed.append((call.function.name, ""))
            name, arguments = streamed[call.index]
            streamed[call.index] = (name, arguments + (call.function.arguments or ""))
    assert (text, streamed, reasons) == (choice.message.content or "", calls, [choice.finish_reason])
    return text, calls


def check(name: str, arguments: str) -> None:
    jsonschema.validate(json.loads(arguments), {"weather": PARAMETERS, "note": NOTE["function"]["parameters"]}[name])


def test_a_call_that_the_model_begins_is_one_of_a_tool_with_arguments_of_its_schema(
    start: Callable[..., Any], say: Callable[..., None]
) -> None:
    with client_of(start, HERMES_TEMPLATE) as client:
        say("I look.\n<tool_call>", "\0")
        names = set()
        for seed in range(6):
            text, ((name, arguments),) = whole(client, **OFFERED | {"seed": seed})
            assert text == "I look."
            check(name, arguments)
            names.add(name)
        assert names == {"weather", "note"}, "it was free to choose"


def test_the_model_may_make_several_calls_unless_it_is_told_not_to(
    start: Callable[..., Any], say: Callable[..., None]
) -> None:
    another = '\n<tool_call>\n{"name": "note", "arguments": {}}\n</tool_call>\0'
    with client_of(start, HERMES_TEMPLATE) as client:
        say("<tool_call>", "\n<tool_call>", "\nThat is all.\0")
        text, calls = whole(client, **OFFERED)
        assert len(calls) == 2
        for name, arguments in calls:
            check(name, arguments)
        assert text.strip() == "That is all."
        say("<tool_call>", "\nThat is all.\0")
        text, ((name, arguments),) = whole(client, **OFFERED, parallel_tool_calls=False)
        check(name, arguments)
        assert text.strip() == "That is all."
        say("<tool_call>", another)
        got = client.chat.completions.create(**OFFERED, parallel_tool_calls=False)
        assert len(got.choices[0].message.tool_calls or ()) == 1


@pytest.mark.parametrize("template", [HERMES_TEMPLATE, LLAMA3_TEMPLATE], ids=["hermes", "llama3"])
def test_the_model_may_call_nothing(start: Callable[..., Any], say: Callable[..., None], template: str) -> None:
    with client_of(start, template) as client:
        say('It is {"warm": 1} <tool\0')
        assert whole(client, **OFFERED) == ('It is {"warm": 1} <tool', [])


def test_llama_3s_calls_are_recognized_and_other_objects_are_text(
    start: Callable[..., Any], say: Callable[..., None]
) -> None:
    with client_of(start, LLAMA3_TEMPLATE) as client:
        for text in (LLAMA3_CALL, "<|python_tag|>" + LLAMA3_CALL):
            say(text + "\0")
            assert whole(client, **OFFERED) == ("", [("weather", ARGUMENTS)])
        say(f"{LLAMA3_CALL}; {LLAMA3_CALL.replace('weather', 'note')}\0")
        assert whole(client, **OFFERED) == ("", [("weather", ARGUMENTS), ("note", ARGUMENTS)])
        for text in ('{"city": "Rome"}', LLAMA3_CALL.replace("weather", "no tool")):
            say(text + "\0")
            assert whole(client, **OFFERED) == (text, [])


@pytest.mark.parametrize(
    ("template", "beginning"),
    [(HERMES_TEMPLATE, "I look.\n<tool_call>"), (LLAMA3_TEMPLATE, LLAMA3_CALL + "\0")],
    ids=["hermes", "llama3"],
)
def test_anthropics_client_gets_calls_that_it_did_not_demand(
    start: Callable[..., Any], say: Callable[..., None], template: str, beginning: str
) -> None:
    asked: Any = {
        "model": "tiny",
        "max_tokens": 200,
        "messages": ASK,
        "tools": [ANTHROPIC_TOOL],
        "tool_choice": {"type": "auto"},
        "extra_body": {"temperature": 0},
    }
    with (
        start({"context_length": 900, "chat_template": template}) as running,
        anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as client,
    ):
        say(beginning, "\0")
        got = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
    for message in (got, final):
        blocks: list[Any] = list(message.content)
        use = blocks.pop()
        assert (message.stop_reason, use.type, use.name) == ("tool_use", "tool_use", "weather")
        jsonschema.validate(use.input, PARAMETERS)
        assert [block.text for block in blocks] == ["I look."] * ("I look." in beginning)
