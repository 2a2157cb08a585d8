"""The protocol of llama.cpp's perplexity tool, and the figure llama.cpp itself gives for a real model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from miaotui import LLM
from miaotui.engine.perplexity import evaluate_perplexity
from miaotui.errors import ContextLengthError, InvalidRequestError

TEXT = "the cat and the dog are in the house and the mouse is in the hat. " * 20


@pytest.fixture
def llm(tiny_model: Path) -> Iterator[LLM]:
    with LLM(tiny_model) as llm:
        yield llm


def window_losses(llm: LLM, window: list[int]) -> list[float]:
    """Negative log-probabilities of the tokens behind the positions of the second half."""
    scored = llm.generate(window, max_tokens=0, prompt_logprobs=0).prompt_logprobs
    assert scored is not None
    return [-entry.logprob for entry in scored[len(window) // 2 + 1 :] if entry is not None]


@pytest.mark.parametrize("add_bos", [False, True])
def test_second_halves_of_all_windows_are_scored(llm: LLM, monkeypatch: pytest.MonkeyPatch, add_bos: bool) -> None:
    ids = llm.tokenizer.encode(TEXT)
    monkeypatch.setattr(llm.tokenizer, "add_bos", add_bos)
    losses: list[float] = []
    for start in range(0, len(ids) // 64 * 64, 64):
        window = ids[start : start + 64]
        if add_bos:
            window[0] = llm.tokenizer.bos_id
        losses += window_losses(llm, window)
    result = evaluate_perplexity(llm, TEXT, window_tokens=64)
    assert len(losses) == result.windows * 31
    mean = sum(losses) / len(losses)
    assert result.ppl == pytest.approx(math.exp(mean))
    variance = sum(loss * loss for loss in losses) / len(losses) - mean * mean
    assert result.stderr == pytest.approx(result.ppl * math.sqrt(variance / (len(losses) - 1)))


def test_windows_are_limited_and_progress_is_told(llm: LLM) -> None:
    seen: list[tuple[int, int, float]] = []
    result = evaluate_perplexity(llm, TEXT, num_windows=2, window_tokens=64, progress=lambda *a: seen.append(a))
    assert result.windows == 2
    assert [(done, total) for done, total, _ in seen] == [(1, 2), (2, 2)]
    assert seen[-1][2] == pytest.approx(result.ppl)


def test_short_texts_few_windows_and_small_contexts_are_refused(llm: LLM, tiny_model: Path) -> None:
    with pytest.raises(InvalidRequestError, match="tokens, a window 512; give a longer text"):
        evaluate_perplexity(llm, "the")
    with pytest.raises(InvalidRequestError, match="at least 1"):
        evaluate_perplexity(llm, TEXT, num_windows=0)
    with LLM(tiny_model, context_length=256) as small, pytest.raises(ContextLengthError, match="512 tokens"):
        evaluate_perplexity(small, TEXT)


@pytest.mark.model
def test_first_windows_of_wikitext_agree_with_llama_cpp(smollm2_path: Path, data_dir: Path) -> None:
    """The reference was computed from the logits of llama-cpp-python 0.3.36 on the same file, windows 1 and 2."""
    text = (data_dir / "wikitext2-test.raw").read_text(encoding="utf-8")
    with LLM(smollm2_path, max_logit_rows=256) as llm:
        result = evaluate_perplexity(llm, text, num_windows=2)
    assert result.ppl == pytest.approx(21.463, rel=0.01)
