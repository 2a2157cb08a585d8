"""LangChain's chat model works unmodified, and so does the sequence of calls that Open WebUI makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import langchain_openai
import pytest

from server.conftest import Running
from server.test_tools import HERMES_TEMPLATE, PARAMETERS


def chat_model(url: str, **options: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        model="tiny", base_url=f"{url}/v1", api_key="none", max_retries=0, **{"max_tokens": 12, **options}
    )


def test_langchain_asks_streams_and_counts(running: Running) -> None:
    model = chat_model(running.url, temperature=0)
    got = model.invoke([("system", "Be brief"), ("human", "the cat")])
    assert got.response_metadata["finish_reason"] in ("stop", "length")
    assert got.usage_metadata["output_tokens"] > 0
    chunks = list(model.stream([("system", "Be brief"), ("human", "the cat")], stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == got.content
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.usage_metadata["output_tokens"] == got.usage_metadata["output_tokens"]


def test_langchain_batches_requests(running: Running) -> None:
    got = chat_model(running.url, temperature=0).batch(["one", "two", "one"])
    assert got[0].content == got[2].content


def test_langchain_binds_tools_and_reads_structured_output(start: Callable[..., Any]) -> None:
    tool = {"name": "weather", "description": "It", "parameters": PARAMETERS}
    schema = {"title": "Place", "description": "Where", **PARAMETERS}
    with start({"context_length": 900, "chat_template": HERMES_TEMPLATE}) as running:
        model = chat_model(running.url, max_tokens=200, seed=1)
        for choice in ("any", "weather"):
            bound = model.bind_tools([tool], tool_choice=choice, parallel_tool_calls=False)
            call = bound.invoke("Hi").tool_calls[0]
            assert call["name"] == "weather"
            assert call["args"]["city"] in ("Rome", "Paris")
        streamed = None
        for chunk in model.bind_tools([tool], tool_choice="any", parallel_tool_calls=False).stream("Hi"):
            streamed = chunk if streamed is None else streamed + chunk
        assert streamed is not None
        assert streamed.tool_calls[0]["name"] == "weather"
        for method in ("json_schema", "function_calling"):
            place = model.with_structured_output(schema, method=method).invoke("Hi")
            assert place["city"] in ("Rome", "Paris")


def test_langchains_token_ids_for_embeddings_are_refused(running: Running) -> None:
    embeddings = langchain_openai.OpenAIEmbeddings(
        model="tiny", base_url=f"{running.url}/v1", api_key="none", max_retries=0, check_embedding_ctx_length=False
    )
    with pytest.raises(Exception, match="makes no embeddings"):
        embeddings.embed_documents(["a", "b"])
    reply = httpx.post(f"{running.url}/v1/embeddings", json={"model": "tiny", "input": [[15339, 1917]]})
    assert reply.status_code == 400
    assert "check_embedding_ctx_length=False" in reply.json()["error"]["message"]


def test_open_webuis_calls_in_their_order(start: Callable[..., Any]) -> None:
    from miaotui.server.keys import parse_keys

    with (
        start(keys=parse_keys(["sesame"], "a test")) as running,
        httpx.Client(base_url=f"{running.url}/v1/", headers={"authorization": "Bearer sesame"}) as client,
    ):
        # The connection is verified; a base URL with a slash at its end makes two of them.
        assert client.get(f"{running.url}/v1//models").json()["data"][0]["id"] == "tiny"
        models = client.get("models").json()["data"]
        assert [(model["object"], model["owned_by"]) for model in models] == [("model", "miaotui")]
        assert client.get("models", headers={"authorization": "Bearer wrong"}).status_code == 401
        # A question, with the fields of its own that Open WebUI leaves in.
        asked: dict[str, Any] = {
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "the cat"}],
            "max_tokens": 8,
            "session_id": "x",
            "chat_id": "y",
            "features": {"web_search": False},
            "background_tasks": {"title_generation": True},
        }
        with client.stream("POST", "chat/completions", json=asked) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            lines = [line[6:] for line in reply.iter_lines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        chunks = [json.loads(line) for line in lines[:-1]]
        assert chunks[-1]["usage"]["completion_tokens"] > 0
        assert all(isinstance(chunk["id"], str) and chunk["object"] == "chat.completion.chunk" for chunk in chunks)
        # Then title, tags and follow-up questions, not streamed.
        task = {"model": "tiny", "messages": asked["messages"], "stream": False, "max_completion_tokens": 8}
        title = client.post("chat/completions", json=task).json()
        assert isinstance(title["choices"][0]["message"]["content"], str)
