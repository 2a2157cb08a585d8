"""What a request wants its answer to end with."""

from __future__ import annotations

from miaotui.core import StopWhen
from miaotui.engine.behind_reasoning import BehindReasoning
from miaotui.engine.choice_end import ChoiceEnd
from miaotui.engine.json_end import JsonEnd
from miaotui.engine.text import EndWatch


def end_watch(wanted: StopWhen | None, *, reasoning: bool = False) -> EndWatch | None:
    """A watch for one answer; None where nobody asked. reasoning: whether the prompt ends inside a block of it."""
    if wanted is None:
        return None
    return BehindReasoning(JsonEnd() if wanted.choice is None else ChoiceEnd(wanted.choice), inside=reasoning)
