"""An answer has the same tokens and the same log-probabilities, bit by bit, whatever happens around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from miaotui import LLM, SamplingParams
from miaotui.engine.results import Completion

ASK = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=2)
BEGINNING = "In the year of the great flood the people of the valley took their boats and went up to the hills, where "
PROMPTS = [BEGINNING * (1 + number % 3) + f"number {number} said" for number in range(16)]


def said(completion: Completion) -> tuple[Any, ...]:
    return completion.token_ids, completion.logprobs


def alone(model: Path, **options: Any) -> list[tuple[Any, ...]]:
    with LLM(model, prefix_cache=False, context_length=400, **options) as llm:
        return [said(llm.generate(prompt, ASK)) for prompt in PROMPTS]


@cache
def expected(model: Path) -> list[tuple[Any, ...]]:
    return alone(model)


def in_a_batch_of_16(model: Path) -> list[tuple[Any, ...]]:
    with LLM(model, prefix_cache=False, context_length=400) as llm:
        return [said(completion) for completion in llm.generate(PROMPTS, ASK)]


def after_a_prefix_hit(model: Path) -> list[tuple[Any, ...]]:
    with LLM(model, context_length=400) as llm:
        llm.generate(PROMPTS[2], ASK)
        completions = [llm.generate(prompt, ASK) for prompt in PROMPTS]
    assert all(completion.receipt.cached_tokens >= 16 for completion in completions)
    return [said(completion) for completion in completions]


def in_chunks(model: Path) -> list[tuple[Any, ...]]:
    return alone(model, max_tokens_per_step=16, max_sequences=7, max_logit_rows=7)


def preempted(model: Path) -> list[tuple[Any, ...]]:
    with LLM(model, prefix_cache=False, context_length=400) as llm:
        page_bytes = llm.loaded.kv_plan.block_bytes
    with LLM(model, prefix_cache=False, context_length=400, kv_memory_bytes=30 * page_bytes) as llm:
        completions = llm.generate(PROMPTS, ASK)
        assert llm.loaded.engine.scheduler.num_preemptions > 0
        llm.loaded.engine.check_integrity()
    return [said(completion) for completion in completions]


def from_disk(model: Path) -> list[tuple[Any, ...]]:
    with LLM(model, context_length=400, prefix_cache_bytes=64 << 20) as llm:
        llm.generate(PROMPTS[2], ASK)
    with LLM(model, context_length=400, prefix_cache_bytes=64 << 20) as llm:
        completions = [llm.generate(prompt, ASK) for prompt in PROMPTS]
    assert all(completion.receipt.cached_tokens >= 16 for completion in completions)
    return [said(completion) for completion in completions]


WAYS = [in_a_batch_of_16, after_a_prefix_hit, in_chunks, preempted, from_disk]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_tiny_model(way: Callable[[Path], Any], tiny_model: Path, home: None) -> None:
    assert way(tiny_model) == expected(tiny_model)


@pytest.mark.model
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_real_model(way: Callable[[Path], Any], smollm2_path: Path, home: None) -> None:
    assert way(smollm2_path) == expected(smollm2_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAOTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIAOTUI_TUNE", "0")
