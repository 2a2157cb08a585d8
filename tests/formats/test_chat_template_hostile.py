"""No template reaches the interpreter, fills the memory, or runs for long."""

from __future__ import annotations

import tracemalloc

import pytest

from formats.hostile_templates import FORBIDDEN, TOO_MUCH
from miaotui.errors import ChatTemplateError
from miaotui.formats.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("source", TOO_MUCH)
def test_a_template_that_wants_too_much_is_stopped(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="was stopped: it"):
        ChatTemplate(source).render(MESSAGES)


@pytest.mark.parametrize("source", FORBIDDEN)
def test_a_template_that_reaches_out_is_refused(source: str) -> None:
    with pytest.raises(ChatTemplateError, match=r"failed|cannot be used|needs something") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("source", [source for source in TOO_MUCH if "namespace(x='ab')" in source])
def test_what_a_stopped_template_made_is_bounded(source: str) -> None:
    template = ChatTemplate(source)
    tracemalloc.start()
    try:
        with pytest.raises(ChatTemplateError, match="was stopped"):
            template.render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_template_stopped_once_can_be_used_again() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content * 99999 }}{% endfor %}")
    with pytest.raises(ChatTemplateError, match="was stopped: it writes more"):
        template.render(MESSAGES * 20)
    assert len(template.render(MESSAGES)) == 2 * 99999
