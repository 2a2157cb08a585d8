"""OpenAI's client works unmodified with the Responses API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import openai
import pytest

from miaotui import LLM
from server.test_tools import PARAMETERS, client_of

TOOL: Any = {"type": "function", "name": "weather", "description": "It", "parameters": PARAMETERS, "strict": True}
ASK: dict[str, Any] = {"model": "tiny", "input": "the cat", "max_output_tokens": 12, "temperature": 0}


@pytest.fixture
def client(start: Callable[..., Any]) -> Iterator[openai.OpenAI]:
    with client_of(start, None) as client:
        yield client


def test_a_response_says_what_the_library_says(client: openai.OpenAI, tiny_model: Any) -> None:
    got = client.responses.create(**ASK, instructions="Be brief")
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "the cat"}]
    with LLM(tiny_model, context_length=200) as alone:
        want = alone.chat(messages, temperature=0, max_tokens=12)
    assert got.output_text == want.text
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens) == (want.receipt.prompt_tokens, want.receipt.output_tokens)
    if want.finish_reason == "length":
        assert got.status == "incomplete"
        assert got.incomplete_details is not None
        assert got.incomplete_details.reason == "max_output_tokens"


def test_streamed_events_add_up_to_the_response(client: openai.OpenAI) -> None:
    shape: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "string", "maxLength": 9}}}
    asked: Any = ASK | {"text": shape, "max_output_tokens": 50}
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == final.output_text
    assert final.status == whole.status


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_and_its_result(client: openai.OpenAI, stream: bool) -> None:
    asked: Any = ASK | {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 200}
    if stream:
        with client.responses.stream(**asked) as events:
            deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
            got: Any = events.get_final_response()
        assert "".join(deltas) == got.output[0].arguments
    else:
        got = client.responses.create(**asked)
    (call,) = got.output
    assert (call.type, call.name, got.status) == ("function_call", "weather", "completed")
    jsonschema.validate(json.loads(call.arguments), PARAMETERS)
    history = [
        {"role": "user", "content": [{"type": "input_text", "text": "the cat"}]},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    again = client.responses.create(**ASK | {"input": history, "tools": [TOOL], "tool_choice": "none"})
    assert again.output[0].type == "message"
    assert again.usage.input_tokens > 20


def test_a_schema_for_the_text(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": True}}
    got = client.responses.create(**ASK | {"text": form, "max_output_tokens": 200})
    jsonschema.validate(json.loads(got.output_text), PARAMETERS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"previous_response_id": "resp_1"}, "responses are not stored"),
        ({"tools": [{"type": "web_search"}]}, "cannot run"),
        ({"input": [{"type": "computer_call"}]}, "input holds"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "cannot read"),
        ({"max_output_tokens": 100_000}, "max_tokens"),
    ],
    ids=str,
)
def test_what_is_not_served_is_said(client: openai.OpenAI, change: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.responses.create(**ASK | change)


def test_embeddings_are_refused_sensibly(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="tiny", input="Hi")
