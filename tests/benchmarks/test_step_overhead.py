"""What Python does in a decode step is what is left of it beside the native calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.tiny_model import tiny_model as tiny_model  # a fixture
from miaotui import LLM
from step_overhead import measure


@pytest.mark.parametrize("has_model", [True, False])
def test_a_decode_step_is_what_is_native_and_the_rest(tiny_model: Path, has_model: bool) -> None:
    with LLM(tiny_model, context_length=128) as llm:
        program = llm.loaded.engine.runner._program
        found = measure(llm, 4, 10, has_model=has_model)
        assert llm.loaded.engine.runner._program is program
        llm.loaded.engine.check_integrity()
    assert {len(samples) for samples in found.values()} == {9}  # the first token of each comes of its prompt
    for step, forward, sampling, python in zip(*found.values(), strict=True):
        assert python > 0 < sampling
        assert step == pytest.approx(forward + sampling + python, abs=0.3)
    assert [forward > 0 for forward in found["forward"]] == [True] + [has_model] * 8
