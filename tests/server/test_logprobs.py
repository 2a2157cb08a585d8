"""Nobody waits while many log-probabilities are written down."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from server.conftest import Running

MESSAGES = [{"role": "user", "content": "the cat"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES, "logprobs": True, "top_logprobs": 3},
    COMPLETIONS: {"prompt": "the cat", "logprobs": 3},
}
SEEDED: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 40, "ignore_eos": True}


@pytest.mark.parametrize(("path", "name"), [(CHAT, "chat.chat_logprobs"), (COMPLETIONS, "completions._logprobs")])
def test_others_are_answered_while_logprobs_are_written_down(
    running: Running, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    begun, may_go_on, was_in_time = threading.Event(), threading.Event(), []

    def held(*_: object) -> None:
        begun.set()
        was_in_time.append(may_go_on.wait(10))

    monkeypatch.setattr(f"miaotui.server.{name}", held)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(httpx.post, running.url + path, json=SEEDED | ASKED[path], timeout=60)
        assert begun.wait(60)
        assert httpx.get(running.url + "/health", timeout=60).status_code == 200
        may_go_on.set()
        assert reply.result(60).status_code == 200
    assert was_in_time == [True]
