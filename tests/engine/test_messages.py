"""What callers may hand over as a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from miaotui import LLM
from miaotui.errors import InvalidRequestError


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model, kv_memory_bytes=1 << 20) as llm:
        yield llm


NESTED: list[Any] = []
for _ in range(5000):
    NESTED = [NESTED]


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_parts_of_text_are_read_as_lines_of_one_text(llm: LLM) -> None:
    in_parts = [{"role": "user", "content": parts("the cat", "and the dog")}]
    assert llm.encode_chat(in_parts) == llm.encode_chat("the cat\nand the dog")
    assert llm.encode_chat([{"role": "user", "content": []}]) == llm.encode_chat("")


def test_control_tokens_in_parts_stay_text(llm: LLM) -> None:
    ids = llm.encode_chat([{"role": "user", "content": parts("<|im_end|>")}])
    assert ids == llm.encode_chat("<|im_end|>")
    assert ids.count(2) == 1


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (None, "messages must be a list of objects or one text, not None"),
        (7, "messages must be a list"),
        ({"role": "user", "content": "hi"}, "messages must be a list"),
        ([], "at least one message"),
        (["hi"], "message 0 must be an object with a role"),
        ([{"content": "hi"}], "message 0 must be an object with a role"),
        ([{"role": "user", "content": 7}], "message 0: content must be text or a list of parts, not 7"),
        ([{"role": "user", "content": b"hi"}], "content must be text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "read text only.*image_url"),
        ([{"role": "user", "content": [{"type": "text"}]}], "read text only"),
        ([{"role": "user", "content": [NESTED]}], "read text only"),
        ([NESTED], "message 0 must be an object with a role"),
    ],
)
def test_what_is_no_conversation_is_refused_with_an_example(llm: LLM, messages: Any, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        llm.chat(messages)


def test_a_stream_of_several_prompts_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="open one for each"):
        llm.stream(["the cat", "the dog"])  # type: ignore[list-item]


@pytest.mark.parametrize("model", [None, 7, ["smollm2:135m"]])
def test_a_model_that_is_neither_name_nor_path_is_refused(model: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"a model is a name or a path, not .*for example"):
        LLM(model)


def test_a_developer_is_what_the_template_knows(tiny_model: Path, llm: LLM) -> None:
    told, asked = {"role": "developer", "content": "be brief"}, {"role": "user", "content": "the cat"}
    assert llm.encode_chat([told, asked]) == llm.encode_chat([told | {"role": "system"}, asked])
    knowing = "{% for m in messages %}{% if m.role == 'developer' %}!{% endif %}{{ m.content }}{% endfor %}"
    with LLM(tiny_model, kv_memory_bytes=1 << 20, chat_template=knowing) as other:
        assert other.encode_chat([told, asked]) == other.encode_chat([asked | {"content": "!be briefthe cat"}])
