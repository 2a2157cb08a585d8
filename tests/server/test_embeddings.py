"""/v1/embeddings beside a model that writes, and on a server that makes nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import langchain_openai
import numpy as np
import openai
import pytest

from engine.tiny_bert import HIDDEN, MAX_TOKENS, some_texts
from miaotui import Embedder
from miaotui.server.keys import parse_keys
from miaotui.server.settings import ServerSettings
from server.conftest import Running, serve

SETTINGS = ServerSettings("tiny", embed_model_name="tiny-bert")


@pytest.fixture(scope="module")
def both(tiny_model: Path, tiny_bert: Path) -> Iterator[Running]:
    with serve(tiny_model, SETTINGS, encoder=tiny_bert) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tiny_bert: Path) -> Iterator[Running]:
    with serve(None, ServerSettings("tiny-bert", embed_model_name="tiny-bert"), encoder=tiny_bert) as running:
        yield running


@pytest.fixture(scope="module")
def expected(tiny_bert: Path) -> Iterator[Embedder]:
    with Embedder(tiny_bert) as embedder:
        yield embedder


def ask(running: Running, **body: Any) -> httpx.Response:
    return httpx.post(f"{running.url}/v1/embeddings", json=body)


def vectors(reply: httpx.Response) -> np.ndarray:
    assert reply.status_code == 200, reply.text
    return np.array([entry["embedding"] for entry in reply.json()["data"]], np.float32)


def test_numbers_and_base64_are_the_embedder_s_vectors(both: Running, expected: Embedder) -> None:
    texts = some_texts(7)
    want = expected.embed(texts)
    reply = ask(both, input=texts, model="tiny-bert")
    np.testing.assert_array_equal(vectors(reply), want)
    body = reply.json()
    assert (body["object"], body["model"]) == ("list", "tiny-bert")
    assert [(e["object"], e["index"]) for e in body["data"]] == [("embedding", i) for i in range(7)]
    num_tokens = sum(map(len, expected.encode(texts)))
    assert body["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    packed = ask(both, input=texts, encoding_format="base64").json()["data"]
    rows = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in packed]
    np.testing.assert_array_equal(np.array(rows), want)


def test_one_text_and_fewer_dimensions(both: Running, expected: Embedder) -> None:
    got = vectors(ask(both, input="the cat", dimensions=5))
    np.testing.assert_array_equal(got, expected.embed(["the cat"], dimensions=5))


def test_a_model_asked_for_what_the_other_does_is_told_apart(both: Running) -> None:
    said = ask(both, input="the cat", model="tiny")
    assert (said.status_code, said.json()["error"]["message"]) == (
        404,
        "'tiny' writes text; 'tiny-bert' makes embeddings.",
    )
    body = {"model": "tiny-bert", "prompt": "the cat", "max_tokens": 1}
    said = httpx.post(f"{both.url}/v1/completions", json=body)
    assert said.status_code == 404
    assert said.json()["error"]["message"].startswith("'tiny-bert' makes embeddings")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"input": []}, "input must hold 1 to 2048 texts"),
        ({"input": ["a"] * 2049}, "input must hold 1 to 2048 texts, not 2049"),
        ({"input": [1, 2]}, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2]]}, "check_embedding_ctx_length=False"),
        ({"input": "a", "dimensions": 0}, f"dimensions must be a whole number from 1 to {HIDDEN}"),
        ({"input": "a", "dimensions": 10**6}, "dimensions must be"),
        ({"input": "a", "dimensions": 1.5}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format must be float or base64"),
        ({"input": "cat " * 99}, f"reads at most {MAX_TOKENS}"),
        ({"input": {"a": 1}}, "input"),
        ({}, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused_with_the_reason(both: Running, body: dict[str, Any], says: str) -> None:
    reply = ask(both, **body)
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]


def test_a_text_that_is_too_long_is_cut_if_asked_for(both: Running, expected: Embedder) -> None:
    text = "cat " * 99
    np.testing.assert_array_equal(vectors(ask(both, input=text, truncate=True)), expected.embed([text], truncate=True))


def test_another_model_s_name_is_not_found(both: Running) -> None:
    reply = ask(both, input="a", model="text-embedding-3-small")
    assert reply.status_code == 404
    assert "'tiny' and 'tiny-bert'" in reply.json()["error"]["message"]
    assert ask(both, input="a", model="tiny").status_code == 404


def test_both_models_are_listed_and_the_one_that_writes_still_writes(both: Running) -> None:
    listed = httpx.get(f"{both.url}/v1/models").json()["data"]
    assert [(m["id"], m["max_model_len"]) for m in listed] == [("tiny", 200), ("tiny-bert", MAX_TOKENS)]
    assert [m["task"] for m in listed] == ["generate", "embed"]
    assert httpx.get(f"{both.url}/v1/models/tiny-bert").json()["id"] == "tiny-bert"
    body = {"model": "tiny", "prompt": "Hi", "max_tokens": 2}
    assert httpx.post(f"{both.url}/v1/completions", json=body).status_code == 200


def test_openai_s_own_client_understands(both: Running, expected: Embedder) -> None:
    client = openai.OpenAI(base_url=f"{both.url}/v1", api_key="none", max_retries=0)
    reply = client.embeddings.create(model="tiny-bert", input=["the cat", "a dog"])  # asks for base64
    np.testing.assert_allclose([e.embedding for e in reply.data], expected.embed(["the cat", "a dog"]))


def test_langchain_s_client_understands(both: Running, expected: Embedder) -> None:
    client = langchain_openai.OpenAIEmbeddings(
        model="tiny-bert", base_url=f"{both.url}/v1", api_key="none", max_retries=0, check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(client.embed_documents(["the cat"]), expected.embed(["the cat"]))


def test_tokens_are_counted_and_shown(both: Running) -> None:
    def count() -> float:
        lines = httpx.get(f"{both.url}/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith("miaotui_embedded_tokens_total")).split()[1])

    before = count()
    used = ask(both, input=["the cat", "a dog"]).json()["usage"]["total_tokens"]
    assert count() == before + used


def test_tokens_are_charged_to_the_key_that_asked(tiny_bert: Path) -> None:
    keys = tuple(parse_keys(("one", "two"), "test"))
    settings = ServerSettings("tiny-bert", embed_model_name="tiny-bert", keys=keys, rate_limit_tokens=10)
    with serve(None, settings, encoder=tiny_bert) as running:

        def ask_as(key: str) -> int:
            head = {"authorization": f"Bearer {key}"}
            return httpx.post(f"{running.url}/v1/embeddings", json={"input": "the cat " * 6}, headers=head).status_code

        assert ask_as("one") == 200
        assert ask_as("one") == 429
        assert ask_as("two") == 200
        assert ask_as("none") == 401


def test_a_server_of_embeddings_alone_embeds_and_says_that_nothing_writes(alone: Running, expected: Embedder) -> None:
    np.testing.assert_array_equal(vectors(ask(alone, input="the cat")), expected.embed(["the cat"]))
    assert [m["id"] for m in httpx.get(f"{alone.url}/v1/models").json()["data"]] == ["tiny-bert"]
    for path in ("/health", "/ready", "/metrics"):
        assert httpx.get(f"{alone.url}{path}").status_code == 200
    asked = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
        "/v1/completions": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi"},
        "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "model": "x"},
        "/tokenize": {"prompt": "Hi"},
        "/detokenize": {"tokens": [1]},
    }
    for path, body in asked.items():
        assert httpx.post(f"{alone.url}{path}", json=body).status_code == 404, path
    reply = httpx.post(f"{alone.url}/v1/completions", json={"prompt": "Hi"})
    assert "no model that writes is served here" in reply.json()["error"]["message"]
