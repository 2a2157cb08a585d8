"""Long bodies are read beside the loop."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.formats.chat_template import MAX_INPUT_NODES
from miaotui.server import bodies
from server.bodies import GOOD
from server.conftest import Running


def test_others_are_answered_while_a_long_body_is_read(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on, was_in_time, begun, decode = threading.Event(), [], threading.Semaphore(0), bodies.decode

    def held(body: bytes, kind: Any) -> Any:
        begun.release()
        was_in_time.append(may_go_on.wait(10))
        return decode(body, kind)

    cache = AnswerCache([DictStore()], b"s" * 32)
    with start({"cache": cache}) as running, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(bodies, "decode", held)
        for path, body in GOOD.items():
            may_go_on.clear()
            raw = json.dumps(body | {"unknown": "x" * bodies.LONG_BODY_BYTES})
            reply = pool.submit(httpx.post, running.url + path, content=raw, timeout=60)
            assert begun.acquire(timeout=60), path
            assert httpx.get(running.url + "/health", timeout=60).status_code == 200
            may_go_on.set()
            reply.result(60)
    assert was_in_time == [True] * len(GOOD)


def test_short_bodies_are_read_at_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_a_thread(*_: object) -> Any:
        raise AssertionError("which takes longer than reading it")

    monkeypatch.setattr("asyncio.to_thread", in_a_thread)
    raw = json.dumps(GOOD["/tokenize"] | {"unknown": "x" * (bodies.LONG_BODY_BYTES - 100)})
    assert httpx.post(running.url + "/tokenize", content=raw).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages/count_tokens", "/tokenize"])
def test_more_values_than_templates_take_are_refused_before_they_are_counted(running: Running, path: str) -> None:
    parts = [{"type": "text", "text": ""}] * 100 + [""] * MAX_INPUT_NODES
    body = {"messages": [{"role": "user", "content": "hi", "more": parts}]}
    reply = httpx.post(running.url + path, json=body, timeout=60)
    assert reply.status_code == 400
    assert "messages must hold, with tools, at most 200000 values; send less." in reply.text
