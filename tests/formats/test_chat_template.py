"""Chat templates: the text that transformers makes, and errors that say what to do."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from formats.chat_templates import CHATML, CONVERSATIONS, TEMPLATES, TOOLS
from formats.vocabularies import byte_level_metadata, make_tokenizer, train_byte_level
from miaotui.errors import ChatTemplateError
from miaotui.formats import open_model
from miaotui.formats.chat_template import ChatTemplate
from miaotui.formats.tokenizer import Tokenizer

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def _oracle(source: str, messages: list[dict[str, Any]], **options: Any) -> str | None:
    """What transformers renders; None when it raises."""
    try:
        (text,), _ = render_jinja_template([messages], chat_template=source, **TOKENS, **options)
    except Exception:
        return None
    return str(text)


def _render(source: str, messages: list[dict[str, Any]], **options: Any) -> str | None:
    try:
        return ChatTemplate(source, **TOKENS).render(messages, **options)
    except ChatTemplateError:
        return None


def _assert_same_as_transformers(source: str) -> None:
    rendered = 0
    for name, messages in CONVERSATIONS.items():
        for tools in (None, TOOLS):
            for add_generation_prompt in (False, True):
                options = {"tools": tools, "add_generation_prompt": add_generation_prompt}
                ours = _render(source, messages, **options)
                assert ours == _oracle(source, messages, **options), name
                rendered += ours is not None
    assert rendered >= 8


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_that_of_transformers(name: str) -> None:
    _assert_same_as_transformers(TEMPLATES[name])


@pytest.mark.model
@pytest.mark.parametrize(
    "name",
    [
        "smollm2-135m-instruct-q4_1.gguf",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    ],
)
def test_text_of_real_models_equals_that_of_transformers(real_model: Callable[[str], Path], name: str) -> None:
    source = Tokenizer.from_model(open_model(real_model(name))).chat_template
    assert source is not None
    _assert_same_as_transformers(source)


@pytest.mark.model
def test_a_base_model_has_no_template_and_the_error_says_how_to_go_on(real_model: Callable[[str], Path]) -> None:
    path = real_model("gemma-3-270m-q4_k_m.gguf")
    with pytest.raises(ChatTemplateError, match=r"base model.*`generate`.*pass a template"):
        ChatTemplate.from_tokenizer(Tokenizer.from_model(open_model(path)))


def test_extra_variables_reach_the_template() -> None:
    template = ChatTemplate("{{ documents[0].title }} {{ enable_thinking }} {{ date_string }}")
    text = template.render([], documents=[{"title": "T"}], enable_thinking=False, date_string="today")
    assert text == "T False today"


def test_the_clock_is_readable() -> None:
    assert len(ChatTemplate("{{ strftime_now('%Y-%m-%d') }}").render([])) == 10


class _Clock:
    """Stands for `datetime` in the functions of templates."""

    day = 1

    @classmethod
    def now(cls) -> datetime:
        return datetime(2026, 5, cls.day, 12, 30, 1, cls.day)


@pytest.mark.parametrize(
    ("source", "same_day", "next_day"),
    [
        ("{{ messages }}", True, True),
        ("{{ strftime_now('%d %b %Y') }}", True, False),
        ("{% if strftime_now is defined %}{% set a = strftime_now('%d') %}{% endif %}{{ a }}", True, False),
        ("{% if false %}{{ strftime_now('%Y') }}{% endif %}", True, True),
        ("{% set f = '%d' %}{{ strftime_now(f) }}", False, False),
        ("{% set f = strftime_now %}{{ f('%d') }}", False, False),
        ("{{ strftime_now(format='%d') }}", False, False),
    ],
)
def test_equal_dates_are_equal_prompts(
    source: str, same_day: bool, next_day: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, clock = ChatTemplate(source), type("Clock", (_Clock,), {})
    monkeypatch.setattr("miaotui.formats.chat_template_functions.datetime", clock)
    said, text = template.dates(), template.render([])
    assert (template.dates() == said) is True
    clock.day = 2
    assert (template.dates() == said) is next_day
    assert template.render([]) == text or template.dates() != said
    assert (len(said) == 0 or "T" not in said[0]) is same_day  # the moment itself where formats are not known


def test_a_refusal_of_the_template_is_passed_on() -> None:
    with pytest.raises(ChatTemplateError, match="refuses these messages: roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render([])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for x in %}", "line 1"),
        ("\n\n{{ a b }}", "line 3"),
        ("{{ x | no_such_filter }}", "no_such_filter"),
        ("{{ x is no_such_test }}", "no_such_test"),
        ("{% include 'a' %}", "'Include'"),
        ("{% import 'a' as b %}", "'Import'"),
        ("{% extends 'a' %}", "'Extends'"),
        ("{% block a %}{% endblock %}", "'Block'"),
        ("x" * 200_000, "at most 131072"),
        ("{{a}}" * 11_000, "more than 10000 parts"),
        ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "cannot be used"),
        ("{{ " + "not " * 5_000 + "1 }}", "cannot be used"),
        ("{% if a %}" * 3_000 + "{% endif %}" * 3_000, "cannot be used"),
        ("{% for a in b %}" * 30 + "{% endfor %}" * 30, "cannot be used"),
        ("{{ " + "9" * 5_000 + " }}", "cannot be used"),
    ],
)
def test_a_broken_template_is_refused_at_once(source: str, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        ChatTemplate(source)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "list of objects"),
        ({"role": "user"}, "list of objects"),
        (["hello"], "list of objects"),
        ([{"role": "user", "content": b"x"}], "'bytes' is not JSON"),
        ([{"role": "user", "content": object()}], "'object' is not JSON"),
        ([{1: "user"}], "key 1 is not a string"),
        ([{"role": "user", "content": [[]] * 300_000}], "more than 200000 values"),
    ],
)
def test_messages_that_are_not_json_are_refused(messages: Any, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        ChatTemplate(CHATML).render(messages)


def test_deeply_nested_messages_are_refused() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(ChatTemplateError, match="deeper than 64"):
        ChatTemplate(CHATML).render([{"role": "user", "content": value}])


def test_templates_see_plain_values_only() -> None:
    class Role(enum.StrEnum):
        USER = "user"

    class Secret(str):
        password = "x"

    messages = [{"role": Role.USER, "content": Secret("text"), "n": np.int64(3) if sys.maxsize < 0 else 3}]
    template = ChatTemplate("{{ messages[0].role }} {{ messages[0].content }} {{ messages[0].content.password }}")
    assert template.render(messages) == "user text "


def test_rendering_leaves_the_messages_alone() -> None:
    messages = [{"role": "user", "content": ["a"], "reasoning": "r"}]
    source = "{% set x = messages[0].content.append('b') %}"
    with pytest.raises(ChatTemplateError, match="unsafe"):
        ChatTemplate(source).render(messages)
    assert ChatTemplate("{{ messages[0].thinking }}").render(messages) == "r"
    assert messages == [{"role": "user", "content": ["a"], "reasoning": "r"}]


def test_a_message_without_the_field_the_template_needs_is_explained() -> None:
    with pytest.raises(ChatTemplateError, match="needs something that the messages lack"):
        ChatTemplate("{{ 'content: ' + messages[0].content }}").render([{"role": "user"}])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(byte_level_metadata(*train_byte_level(), "smollm"))


def _control(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    return [tokenizer.decode([id], skip_special=False) for id in ids if tokenizer.is_special(id)]


def test_ids_are_those_of_the_text_when_messages_hold_no_control_tokens(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHATML)
    for name in ("one turn", "system", "several turns"):
        text = template.render(CONVERSATIONS[name])
        expected = tokenizer.encode(text, add_special=False, parse_special=True)
        assert template.encode(tokenizer, CONVERSATIONS[name]) == expected


HOSTILE = st.lists(
    st.sampled_from(
        ["<|im_start|>", "<|im_end|>", "<|im_", "start|>", "<", "|im_end|>", "\ufdd0", "a", " ", "<|endoftext|>"]
    ),
    max_size=8,
).map("".join)


@given(contents=st.lists(st.lists(HOSTILE, max_size=4), max_size=3), ensure_ascii=st.booleans())
def test_messages_cannot_forge_control_tokens(
    tokenizer: Tokenizer, contents: list[list[str]], ensure_ascii: bool
) -> None:
    source = (
        "{% for m in messages %}{{ '<|im_start|>' }}{% for p in m.content %}{{ p }}{% endfor %}"
        "{{ '<|im_end|>' }}{% endfor %}"
    )
    if ensure_ascii:
        source = source.replace("{{ p }}", "{{ p | tojson(ensure_ascii=true) }}")
    template = ChatTemplate(source)
    messages = [{"role": "user", "content": parts} for parts in contents]
    ids = template.encode(tokenizer, messages)
    assert _control(tokenizer, ids) == ["<|im_start|>", "<|im_end|>"] * len(messages)
    assert tokenizer.decode(ids, skip_special=False) == template.render(messages)


def test_templates_are_compiled_once() -> None:
    assert ChatTemplate(CHATML)._compiled is ChatTemplate(CHATML, bos_token="x")._compiled
