"""No template reaches the interpreter, fills the memory, or runs for long."""

from __future__ import annotations

import tracemalloc

import pytest

from formats.hostile_templates import FORBIDDEN, TOO_BIG, TOO_INTRICATE, TOO_MUCH, TOO_WIDE
from miaotui.errors import ChatTemplateError
from miaotui.formats import chat_template_limits as limits
from miaotui.formats.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that does not run out first, where the test is about size."""
    monkeypatch.setattr(limits, "MAX_SECONDS", 60.0)


@pytest.mark.parametrize("source", TOO_MUCH)
def test_a_template_that_wants_too_much_is_stopped(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="was stopped: it"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize("source", TOO_BIG)
def test_a_template_that_makes_too_much_is_stopped_before_it_does(source: str, patient: None) -> None:
    template = ChatTemplate(source)
    tracemalloc.start()
    try:
        with pytest.raises(ChatTemplateError, match="more than 64 MiB"):
            template.render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", TOO_INTRICATE)
def test_a_value_of_too_many_parts_or_levels_is_not_looked_at(source: str, patient: None) -> None:
    with pytest.raises(ChatTemplateError, match="more than 200000 parts or 100 levels"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize("source", TOO_WIDE)
def test_a_field_of_absurd_width_is_never_formatted(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="wider than 999"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize("source", FORBIDDEN)
def test_a_template_that_reaches_out_is_refused(source: str) -> None:
    with pytest.raises(ChatTemplateError, match=r"failed|cannot be used|needs something|takes longer") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert len(str(caught.value)) < 1000


def test_literal_text_of_macros_is_paid_for(patient: None) -> None:
    source = "{% macro m() %}" + "y" * 99_999 + "{% endmacro %}{% set ns = namespace(x=[]) %}"
    source += "{% for i in range(9999) %}{% set ns.x = [m(), m(), m(), m(), m()] %}{% endfor %}"
    with pytest.raises(ChatTemplateError, match="more than 64 MiB"):
        ChatTemplate(source).render(MESSAGES)


def test_a_template_stopped_once_can_be_used_again() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content * 99999 }}{% endfor %}")
    with pytest.raises(ChatTemplateError, match="was stopped: it writes more"):
        template.render(MESSAGES * 20)
    assert len(template.render(MESSAGES)) == 2 * 99999
