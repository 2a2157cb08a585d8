"""Tools, schemas and reasoning over the wire, with OpenAI's and Anthropic's own clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from engine.tiny_model import TEMPLATE
from server.conftest import Running

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Paris"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "It", "parameters": PARAMETERS}}
NOTE: Any = {
    "type": "function",
    "function": {"name": "note", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}
HERMES_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
LLAMA3_TEMPLATE = (
    '{% if tools %}<|im_start|>system\nAnswer with {"name": function name, "parameters": arguments}.\n'
    "{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
THINKING_TEMPLATE = TEMPLATE.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
ASK: Any = [{"role": "user", "content": "Hi"}]
FORCED: dict[str, Any] = {"model": "tiny", "messages": ASK, "max_tokens": 200, "seed": 3}


@contextmanager
def client_of(start: Callable[..., Any], template: str | None) -> Iterator[openai.OpenAI]:
    with (
        start({"context_length": 900, "chat_template": template}) as running,
        openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(params=[None, HERMES_TEMPLATE, LLAMA3_TEMPLATE], ids=["without", "hermes", "llama3"])
def client(start: Callable[..., Any], request: Any) -> Iterator[openai.OpenAI]:
    """Of a server whose model's template knows no tools, and of those whose models write them as Hermes and Llama 3."""
    with client_of(start, request.param) as client:
        yield client


def test_a_required_call_fits_its_schema(client: openai.OpenAI) -> None:
    for seed in range(3):
        asked = FORCED | {"tools": [WEATHER, NOTE], "tool_choice": "required", "seed": seed}
        choice = client.chat.completions.create(**asked, parallel_tool_calls=False).choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls or ()
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            jsonschema.validate(arguments, PARAMETERS)
        else:
            assert (call.function.name, arguments) == ("note", {})


def test_a_named_tool_is_the_one_that_is_called(client: openai.OpenAI) -> None:
    choice = {"type": "function", "function": {"name": "note"}}
    got = client.chat.completions.create(**FORCED, tools=[WEATHER, NOTE], tool_choice=choice, parallel_tool_calls=False)  # type: ignore[call-overload]
    assert [call.function.name for call in got.choices[0].message.tool_calls] == ["note"]


def test_streamed_calls_are_the_same_in_the_order_clients_expect(client: openai.OpenAI) -> None:
    asked = FORCED | {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    deltas = [call for choice in chunks for call in choice.delta.tool_calls or ()]
    assert deltas[0].index == 0
    assert deltas[0].id
    assert (deltas[0].type, deltas[0].function.name, deltas[0].function.arguments) == ("function", "weather", "")
    assert all(d.index == 0 and d.id is None and d.function.name is None for d in deltas[1:])
    assert "".join(d.function.arguments for d in deltas) == whole.function.arguments
    assert len(deltas) >= 2
    assert [choice.finish_reason for choice in chunks if choice.finish_reason] == ["tool_calls"]


def test_no_tool_is_called_where_that_is_forbidden(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(**FORCED | {"tools": [WEATHER], "tool_choice": "none", "max_tokens": 20})
    assert got.choices[0].message.tool_calls is None
    assert got.usage.prompt_tokens < 60  # nor is the model told of any


def test_a_conversation_with_calls_and_results_is_read(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "note", "arguments": "{}"}}
    messages: Any = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]
    got = client.chat.completions.create(model="tiny", messages=messages, tools=[NOTE], max_tokens=5)
    assert got.usage is not None
    assert got.usage.completion_tokens > 0


class Person(BaseModel):
    """What is wanted."""

    name: str = Field(max_length=8)
    grown: bool


def test_parsed_models_come_back(client: openai.OpenAI) -> None:
    got = client.chat.completions.parse(**FORCED, response_format=Person, n=2)
    parsed = [choice.message.parsed for choice in got.choices]
    assert [type(person) for person in parsed] == [Person, Person]
    with client.chat.completions.stream(**FORCED, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == parsed[0]


def test_any_json_object_may_be_asked_for(client: openai.OpenAI) -> None:
    closing = {str(3 + ord(sign)): 15 for sign in '"}]'}  # or noise would go on for ever
    asked: Any = FORCED | {"response_format": {"type": "json_object"}, "logit_bias": closing}
    whole = client.chat.completions.create(**asked, n=2).choices
    for choice in whole:
        assert choice.finish_reason == "stop"
        assert isinstance(json.loads(choice.message.content or ""), dict)
    chunks = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole[0].message.content


def test_unsupported_keywords_are_refused_only_if_the_schema_is_strict(client: openai.OpenAI) -> None:
    schema = {"type": "boolean", "not": {"const": 3}}
    shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": False}}
    assert client.chat.completions.create(**FORCED, response_format=shape).choices[0].message.content in (
        "true",
        "false",
    )
    shape["json_schema"]["strict"] = True
    with pytest.raises(openai.BadRequestError, match="Unimplemented keys"):
        client.chat.completions.create(**FORCED, response_format=shape)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({"guided_regex": "[0-9]{3}-x"}, lambda text: len(text) == 5 and text.endswith("-x")),
        ({"guided_choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"structured_outputs": {"grammar": 'start: "a" "b"'}}, lambda text: text == "ab"),
        ({"guided_json": {"const": [1, "x"]}}, lambda text: json.loads(text) == [1, "x"]),
    ],
)
def test_vllms_names_are_understood(running: Running, wanted: dict[str, Any], fits: Callable[[str], bool]) -> None:
    with openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client:
        chat = client.chat.completions.create(**FORCED | {"max_tokens": 50}, extra_body=wanted)
        assert fits(chat.choices[0].message.content or "")
        text = client.completions.create(model="tiny", prompt="It", max_tokens=50, extra_body=wanted)
        assert fits(text.choices[0].text)


def test_an_output_that_cannot_be_finished_is_an_error(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.engine.grammar.MEAN_MASK_S", -1.0)
    wanted: Any = {"guided_regex": "[a-z]{90}"}
    asked: Any = FORCED | {"max_tokens": 100}
    with openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="takes too long"):
            client.chat.completions.create(**asked, extra_body=wanted)
        with pytest.raises(openai.APIError, match="takes too long"):
            list(client.chat.completions.create(**asked, extra_body=wanted, stream=True))
        with pytest.raises(openai.BadRequestError, match="takes too long"):
            client.completions.create(model="tiny", prompt="It", max_tokens=100, extra_body=wanted)
    running.llm.llm.loaded.engine.check_integrity()


def test_reasoning_is_split_out(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.engine.text.TextStream._release", _saying("Hm.</think>\n\nFour."))
    with client_of(start, THINKING_TEMPLATE) as client:
        message = client.chat.completions.create(**FORCED).choices[0].message
        assert message.content == "Four."
        assert message.reasoning_content == "Hm."  # type: ignore[attr-defined]
        deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**FORCED, stream=True)]
        assert "".join(delta.content or "" for delta in deltas) == "Four."
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm."


def test_a_form_for_the_answer_leaves_no_room_for_reasoning(start: Callable[..., Any]) -> None:
    with client_of(start, THINKING_TEMPLATE) as client:
        shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": {"a": 1}}}}
        message = client.chat.completions.create(**FORCED, response_format=shape).choices[0].message
        assert json.loads(message.content or "") == {"a": 1}
        asked = FORCED | {"tools": [NOTE], "tool_choice": "required"}
        assert client.chat.completions.create(**asked).choices[0].finish_reason == "tool_calls"


def test_an_end_within_a_call_cannot_be_asked_for(start: Callable[..., Any]) -> None:
    ends: Any = {"extra_body": {"stop_when": "json"}}
    with client_of(start, HERMES_TEMPLATE) as client:
        for choice in ("auto", "required"):
            with pytest.raises(openai.BadRequestError, match="stop_when must be left out where tools are offered"):
                client.chat.completions.create(**FORCED, tools=[NOTE], tool_choice=choice, **ends)  # type: ignore[call-overload]
        assert client.chat.completions.create(**FORCED, tools=[NOTE], tool_choice="none", **ends).usage


def test_tools_may_have_the_names_of_modes(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "none"}}
    asked = FORCED | {"tools": [tool], "tool_choice": tool, "parallel_tool_calls": False}
    got = client.chat.completions.create(**asked)
    assert [call.function.name for call in got.choices[0].message.tool_calls or ()] == ["none"]


def test_calls_that_are_none_in_the_history_are_no_failure(running: Running) -> None:
    messages: Any = [*ASK, {"role": "assistant", "content": "x", "tool_calls": [{"function": None}, 3]}]
    with openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client:
        assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=2).usage


ANTHROPIC_TOOL: Any = {"name": "weather", "description": "It", "input_schema": PARAMETERS}


def test_anthropics_client_gets_its_tool_use(start: Callable[..., Any]) -> None:
    asked: Any = {
        "model": "tiny",
        "max_tokens": 200,
        "messages": ASK,
        "tools": [ANTHROPIC_TOOL],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    with (
        start({"context_length": 900, "chat_template": HERMES_TEMPLATE}) as running,
        anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as client,
    ):
        got = client.messages.create(**asked, extra_body={"temperature": 0})
        assert got.stop_reason == "tool_use"
        (use,) = got.content
        assert use.type == "tool_use"
        assert use.name == "weather"
        jsonschema.validate(use.input, PARAMETERS)
        with client.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
            final = stream.get_final_message()
        assert final.stop_reason == "tool_use"
        assert [(b.type, b.input) for b in final.content] == [("tool_use", use.input)]  # type: ignore[union-attr]
        result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
        more: Any = [*ASK, {"role": "assistant", "content": got.content}, {"role": "user", "content": [result]}]
        counted = client.messages.count_tokens(model="tiny", messages=more, tools=[ANTHROPIC_TOOL])
        assert counted.input_tokens > got.usage.input_tokens
        with pytest.raises(anthropic.BadRequestError, match="cannot run"):
            client.messages.create(**asked | {"tools": [{"type": "bash_20250124", "name": "bash"}]})


def test_anthropics_client_gets_its_thinking(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"{word} " for word in range(3))
    monkeypatch.setattr("miaotui.engine.text.TextStream._release", _saying("<think>Hm.</think>" + text))
    asked: Any = {"model": "tiny", "max_tokens": 30, "messages": ASK}
    with (
        start({"context_length": 300}) as running,
        anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as client,
    ):
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        assert [block.type for block in final.content] == ["thinking", "text"]
        assert final.content[0].thinking == "Hm."  # type: ignore[union-attr]
        assert final.content[1].text == text  # type: ignore[union-attr]


def _saying(text: str) -> Callable[..., str]:
    """In place of what the model says: this, at the first chance."""
    said: set[int] = set()

    def release(self: Any, num_kept: int) -> str:
        self._held = ""
        if id(self) in said:
            return ""
        said.add(id(self))
        self._parts.append(text)
        return text

    return release
