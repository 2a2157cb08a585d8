"""`suffix` in /v1/completions: the model writes what stands between two texts, where it has learnt to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from engine.tiny_model import write_tiny_model
from miaotui import LLM
from miaotui.server.settings import ServerSettings
from server.conftest import Running, serve

ASK = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("coder") / "coder.gguf", infill=True)


@pytest.fixture(scope="module")
def filling(coder: Path) -> Iterator[Running]:
    with serve(coder, ServerSettings("coder")) as running:
        yield running


def complete(running: Running, **body: object) -> httpx.Response:
    return httpx.post(running.url + "/v1/completions", json=ASK | body, timeout=60)


def test_the_text_between_two_others_is_written(filling: Running, coder: Path) -> None:
    with LLM(coder, context_length=200) as alone:
        before, after = (alone.tokenizer.encode(text) for text in ("the ", " and"))
        first = alone.tokenizer.vocab_size - 3
        want = alone.generate([first, *before, first + 1, *after, first + 2], **ASK)
        other = alone.generate([first, *after, first + 1, *after, first + 2], **ASK)
    got = complete(filling, prompt="the ", suffix=" and").json()
    assert got["choices"][0]["text"] == want.text
    assert got["usage"]["prompt_tokens"] == want.receipt.prompt_tokens
    both = complete(filling, prompt=["the ", " and"], suffix=" and").json()
    assert [choice["text"] for choice in both["choices"]] == [want.text, other.text]
    with httpx.stream(
        "POST", filling.url + "/v1/completions", json=ASK | {"prompt": "the ", "suffix": " and", "stream": True}
    ) as answer:
        assert answer.status_code == 200
        assert answer.read().endswith(b"data: [DONE]\n\n")


def test_an_empty_suffix_asks_for_nothing_else_than_none(filling: Running) -> None:
    texts = [complete(filling, prompt="the ", **more).json()["choices"][0]["text"] for more in ({}, {"suffix": ""})]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("body", [{"prompt": [5, 6]}, {"prompt": "the", "echo": True}])
def test_what_cannot_be_combined_with_a_suffix_is_refused(filling: Running, body: dict[str, object]) -> None:
    answer = complete(filling, suffix="x", **body)
    assert answer.status_code == 400
    assert "suffix" in answer.json()["error"]["message"]


def test_a_model_without_tokens_for_gaps_says_so(running: Running) -> None:
    answer = complete(running, prompt="the", suffix="x")
    assert answer.status_code == 400
    assert "no tokens for filling gaps" in answer.json()["error"]["message"]


def test_texts_around_a_gap_that_cannot_fit_are_refused(filling: Running) -> None:
    half = "a" * (100 * filling.llm.llm.tokenizer.longest_token_bytes)
    answer = complete(filling, prompt=half, suffix=half + "a")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
