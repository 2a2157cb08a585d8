"""Anthropic's own client works unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from miaotui import LLM
from server.conftest import Running

ASK: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "messages": [{"role": "user", "content": "the cat"}]}
GREEDY: dict[str, Any] = {**ASK, "extra_body": {"temperature": 0}}


@pytest.fixture
def client(running: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as client:
        yield client


def test_a_message_says_what_the_library_says(client: anthropic.Anthropic, tiny_model: Any) -> None:
    got = client.messages.create(**GREEDY)
    with LLM(tiny_model, context_length=200) as alone:
        want = alone.chat(ASK["messages"], temperature=0, max_tokens=12)
    assert [block.type for block in got.content] == ["text"]
    assert got.content[0].text == want.text  # type: ignore[union-attr]
    assert got.stop_reason == ("max_tokens" if want.finish_reason == "length" else "end_turn")
    assert got.usage.output_tokens == want.receipt.output_tokens
    read = got.usage.input_tokens + (got.usage.cache_read_input_tokens or 0)
    assert read == want.receipt.prompt_tokens == client.messages.count_tokens(**{
        key: ASK[key] for key in ("model", "messages")
    }).input_tokens  # fmt: skip


def test_a_stream_adds_up_to_the_message(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**GREEDY)
    with client.messages.stream(**GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text  # type: ignore[union-attr]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_blocks_of_text_and_a_system_prompt_are_read(client: anthropic.Anthropic) -> None:
    plain = client.messages.count_tokens(model="tiny", messages=[{"role": "user", "content": "the cat"}])
    blocks: Any = [{"role": "user", "content": [{"type": "text", "text": "the cat"}]}]
    assert client.messages.count_tokens(model="tiny", messages=blocks) == plain
    more = client.messages.count_tokens(model="tiny", messages=blocks, system="be brief")
    assert more.input_tokens > plain.input_tokens


def test_errors_have_anthropics_form(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{**ASK, "extra_body": {"temperature": -2}})
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASK, "model": "claude"})
    image: Any = [{"role": "user", "content": [{"type": "image", "source": {}}]}]
    with pytest.raises(anthropic.BadRequestError, match="type text"):
        client.messages.create(**{**ASK, "messages": image})
