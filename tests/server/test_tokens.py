"""Counting tokens takes turns as answers do: long texts hold nobody up, and those who leave are not waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from miaotui.engine.encoding_line import LONG_TEXT_CHARS
from miaotui.server.wire import MAX_TOKENIZE_CHARS
from server.conftest import Running

LONG = {"messages": [{"role": "user", "content": "a" * (LONG_TEXT_CHARS + 1)}]}
COUNT = LONG | {"model": "tiny"}


def hold(running: Running, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Long conversations are not encoded before this is set."""
    go, tokenizer = threading.Event(), running.llm.llm.tokenizer
    encode = tokenizer.encode_marked

    def held(text: str, mark: str) -> list[int]:
        assert len(text) <= LONG_TEXT_CHARS or go.wait(600)
        return encode(text, mark)

    monkeypatch.setattr(tokenizer, "encode_marked", held)
    return go


def num_waiting(running: Running) -> int:
    return sum(map(len, running.llm.encoding._long._waiting.values()))


def test_short_texts_do_not_wait_behind_long_ones(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with start() as running, ThreadPoolExecutor(24) as clients:
        go = hold(running, monkeypatch)
        try:
            paths = [("/tokenize", LONG), ("/v1/messages/count_tokens", COUNT)] * 12
            long = [clients.submit(httpx.post, running.url + path, json=body, timeout=600) for path, body in paths]
            running.until(lambda: num_waiting(running) == 23)
            short = {"messages": [{"role": "user", "content": "hi"}]}
            asked = {"/tokenize": short, "/v1/messages/count_tokens": short | {"model": "tiny"}}
            asked |= {"/detokenize": {"tokens": [5]}, "/v1/completions": {"prompt": "a", "max_tokens": 1}}
            for path, body in asked.items():
                assert httpx.post(running.url + path, json=body, timeout=30).status_code == 200
            assert not any(one.done() for one in long)
        finally:
            go.set()
        assert {one.result().status_code for one in long} == {200}


def test_more_texts_than_may_wait_are_refused(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with start(max_waiting=1) as running, ThreadPoolExecutor(6) as clients:  # one beside the four that run together
        go = hold(running, monkeypatch)
        try:
            for _ in range(6):
                clients.submit(httpx.post, running.url + "/tokenize", json=LONG, timeout=600)
            running.until(lambda: num_waiting(running) == 5)
            refused = httpx.post(running.url + "/tokenize", json=LONG)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
            assert int(refused.headers["retry-after"]) <= 60
        finally:
            go.set()


@pytest.mark.parametrize(("path", "body"), [("/tokenize", LONG), ("/v1/messages/count_tokens", COUNT)])
def test_a_client_who_leaves_leaves_the_line(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    with start() as running, ThreadPoolExecutor(1) as clients:
        go = hold(running, monkeypatch)
        try:
            clients.submit(httpx.post, running.url + path, json=body, timeout=600)
            running.until(lambda: running.llm.encoding._long._num_free == 0)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(running.url + path, json=body, timeout=httpx.Timeout(60, read=0.5))
            running.until(lambda: num_waiting(running) == 0)
        finally:
            go.set()


def test_too_long_texts_are_refused_without_being_encoded(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with start() as running:
        text = "a" * (200 * running.llm.llm.tokenizer.longest_token_bytes + 1)
        assert httpx.post(running.url + "/tokenize", json={"prompt": text}).json()["count"] == len(text)  # only counted
        monkeypatch.setattr(running.llm.llm.tokenizer, "encode", None)
        answer = httpx.post(running.url + "/v1/completions", json={"prompt": text, "max_tokens": 1})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        monkeypatch.setattr(running.llm.llm.tokenizer, "encode_marked", None)
        for said in ([text], ["a" * 600_000, "b" * 600_000]):
            messages = [{"role": "user", "content": one} for one in said]
            for path in ("/v1/chat/completions", "/v1/messages"):
                answer = httpx.post(running.url + path, json={"messages": messages, "max_tokens": 1})
                assert answer.status_code == 400, answer.text
                assert "shorten" in answer.json()["error"]["message"]
            answer = httpx.post(running.url + "/v1/chat/completions", json={"messages": messages})
            assert answer.json()["error"]["code"] == "context_length_exceeded"
        answer = httpx.post(running.url + "/tokenize", json={"prompt": "a" * (MAX_TOKENIZE_CHARS + 1)})
        assert answer.status_code == 400
        assert str(MAX_TOKENIZE_CHARS) in answer.json()["error"]["message"]
