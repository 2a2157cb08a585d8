"""Real models, quantized to 4 bits, answering: SmolLM2 on every machine, the others where their files are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miaotui import LLM, SamplingParams

pytestmark = pytest.mark.model
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def llm(smollm2_path: Path) -> Iterator[LLM]:
    with LLM(smollm2_path) as llm:
        yield llm


def test_the_capital_of_france_is_paris(llm: LLM) -> None:
    completion = llm.chat(QUESTION, temperature=0.0, max_tokens=40)
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"
    assert (
        llm.score("The capital of France is", " Paris").total > llm.score("The capital of France is", " London").total
    )


@pytest.mark.parametrize("size", ["0.5b", "1.5b"])
def test_qwen_answers_questions(real_model: Callable[[str], Path], size: str) -> None:
    with LLM(real_model(f"qwen2.5-coder-{size}-instruct-q4_k_m.gguf")) as llm:
        capital = llm.chat(QUESTION, temperature=0.0, max_tokens=20)
        assert capital.text == "The capital of France is Paris."
        assert capital.finish_reason == "stop"
        code = llm.chat("Write a Python function that adds two numbers.", temperature=0.0, max_tokens=32)
        assert "def add_numbers(a, b):" in code.text


def test_gemma_goes_on_as_a_base_model_does(real_model: Callable[[str], Path]) -> None:
    with LLM(real_model("gemma-3-270m-q4_k_m.gguf")) as llm:
        assert "The capital of France is Paris." in llm.generate(QUESTION, temperature=0.0, max_tokens=20).text
        days = llm.generate("Monday, Tuesday, Wednesday,", temperature=0.0, max_tokens=8).text
        assert days.startswith(" Thursday, Friday, Saturday, Sunday")
        # More tokens than one of its local layers sees at once.
        counted = llm.generate(" ".join(map(str, range(300))), temperature=0.0, max_tokens=8).text
        assert counted.startswith(" 300 301")


def test_results_do_not_depend_on_company(llm: LLM) -> None:
    params = SamplingParams(seed=4, max_tokens=12, logprobs=2, ignore_eos=True)
    prompts = ["Once upon a time", "def main():\n", "The sea is blue, and the sky above it is as blue as the sea, but"]
    together = llm.generate(prompts, params, n=2)
    for prompt, completion in zip(prompts, together, strict=True):
        alone = llm.generate(prompt, params, n=2)
        for one, other in zip((alone, *alone.others), (completion, *completion.others), strict=True):
            assert (one.token_ids, one.logprobs) == (other.token_ids, other.logprobs)


def test_the_command_answers_a_piped_question_within_modest_memory(smollm2_path: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "miaotui", "run", str(smollm2_path), "--json", "--max-tokens", "40"]
    environment = os.environ | {"MIAOTUI_HOME": str(tmp_path)}
    done = subprocess.run(line, input=QUESTION, capture_output=True, text=True, check=True, env=environment)
    answer = json.loads(done.stdout)
    assert "Paris" in answer["text"]
    assert answer["peak_memory_bytes"] < 250e6
