"""Whether an answer will take all its tokens is told in one place, from everything that may end it."""

from __future__ import annotations

from typing import Any

import pytest

from miaotui.core import SamplingParams
from miaotui.engine.prospect import Load, fills
from miaotui.server.asking import Ask
from miaotui.server.planning import Planner, Planning

ENDS: list[dict[str, Any]] = [
    {"ignore_eos": False},
    {"stop": "x"},
    {"stop_token_ids": [3]},
    {"stop_when": "json"},
    {"structured_outputs": {"regex": "a"}},
    {"repetition_detection": {"max_pattern_size": 4, "min_count": 3}},
]


@pytest.mark.parametrize(("more", "filled"), [({}, True), *((end, False) for end in ENDS)])
def test_what_may_end_an_answer_does_not_fill_it_wherever_that_is_asked(more: dict[str, Any], *, filled: bool) -> None:
    params = SamplingParams(**{"ignore_eos": True, **more})
    assert fills(params) is filled
    ask = Ask([{"role": "user", "content": "hi"}], params, "tenant", "1")
    assert Planning(Planner(), 1000).prospect(ask, Load()).will_fill is filled
