"""Streams are whole however long they are silent, and several answers in one come as they are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2 as httpx
import pytest

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from server.conftest import Running

PATIENT = {"keep_alive_s": 0.05, "stalled_s": 60.0, "hung_s": 60.0}
MESSAGES = [{"role": "user", "content": "the cat"}]
ANSWER: dict[str, Any] = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}
MANY = 10_000


class Steps:
    """The engine's steps, each of which needs a permit while they are held."""

    def __init__(self, running: Running, monkeypatch: pytest.MonkeyPatch, *, num_together: int = 1) -> None:
        self._permits = threading.Semaphore(0)
        engine = running.llm.llm.loaded.engine
        step, scheduler, is_held = engine.step, engine.scheduler, True

        def held() -> Any:
            nonlocal is_held
            if is_held and scheduler.num_unfinished < num_together:
                return []
            is_held = False
            self._permits.acquire()
            return step()

        monkeypatch.setattr(engine, "step", held)

    def allow(self, number: int) -> None:
        self._permits.release(number)


def chat_text(event: dict[str, Any]) -> str:
    return "".join(choice["delta"]["content"] for choice in event["choices"])


def completions_text(event: dict[str, Any]) -> str:
    return "".join(choice["text"] for choice in event["choices"])


def messages_text(event: dict[str, Any]) -> str:
    return str(event["delta"]["text"]) if event["type"] == "content_block_delta" else ""


def responses_text(event: dict[str, Any]) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


PROTOCOLS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], str], str]] = {
    "chat/completions": ({"messages": MESSAGES}, chat_text, "[DONE]"),
    "completions": ({"prompt": "the cat"}, completions_text, "[DONE]"),
    "messages": ({"messages": MESSAGES}, messages_text, '"message_stop"'),
    "responses": ({"input": "the cat", "max_output_tokens": 24}, responses_text, '"response.incomplete"'),
}


class Client:
    """Reads a stream line by line."""

    def __init__(self, lines: Iterator[str], text_of: Callable[[dict[str, Any]], str]) -> None:
        self.lines, self.text_of, self.last = lines, text_of, ""
        self.num_silences, self.text = 0, ""

    def read(self) -> bool:
        """The next line, if there is one."""
        line = next(self.lines, None)
        if line is not None and line.startswith("data: "):
            self.last = line[6:]
            event = {} if self.last == "[DONE]" else json.loads(self.last)
            self.text += self.text_of(event) if event and event.get("type") != "ping" else ""
        self.num_silences += line is not None and line.startswith((":", "event: ping"))
        return line is not None

    def until_silent(self, number: int) -> None:
        """Until the stream has said so often that it is alive."""
        while self.num_silences < number:
            assert self.read(), "the stream has ended"


@pytest.mark.parametrize("keeps", [False, True], ids=["no cache", "cache"])
@pytest.mark.parametrize("path", PROTOCOLS)
def test_a_stream_that_was_silent_is_whole(start: Any, monkeypatch: pytest.MonkeyPatch, path: str, keeps: bool) -> None:
    body, text_of, end = PROTOCOLS[path]
    cache = AnswerCache([DictStore()], b"s" * 32) if keeps else None
    with start({"cache": cache}, **PATIENT) as running, ExitStack() as stack:
        url, asked = f"{running.url}/v1/{path}", ANSWER | body | {"stream": True}
        steps = Steps(running, monkeypatch)

        def begin() -> Client:
            reply = stack.enter_context(httpx.stream("POST", url, json=asked, timeout=60))
            return Client(reply.iter_lines(), text_of)

        clients = [begin() for _ in range(2 if keeps else 1)]  # the second reads what is computed for the first
        for client in clients:
            client.until_silent(3)
        steps.allow(6)
        for client in clients:
            client.until_silent(client.num_silences + 3)
        steps.allow(MANY)
        for client in clients:
            while client.read():
                pass
            assert end in client.last
        again = stack.enter_context(httpx.stream("POST", url, json=asked | {"cache": {"mode": "no-store"}}))
        undisturbed = Client(again.iter_lines(), text_of)
        while undisturbed.read():
            pass
    assert [client.text for client in clients] == [undisturbed.text] * len(clients)
    assert len(undisturbed.text) > 10


def test_several_prompts_answers_come_as_they_are_written(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ANSWER | {"prompt": ["the cat", "a dog and a house"], "n": 2, "max_tokens": 100, "stream": True}
    with start(**PATIENT) as running:
        want = httpx.post(running.url + "/v1/completions", json=asked | {"stream": False}).json()["choices"]
        steps = Steps(running, monkeypatch, num_together=4)
        texts, order = [""] * 4, []
        with httpx.stream("POST", running.url + "/v1/completions", json=asked, timeout=60) as reply:
            for line in reply.iter_lines():
                steps.allow(1)  # a step for each sign of life
                if not line.startswith("data: {"):
                    continue
                (choice,) = json.loads(line[6:])["choices"]
                texts[choice["index"]] += choice["text"]
                order.append((choice["index"], choice["finish_reason"]))
    assert texts == [choice["text"] for choice in want]
    first_end = next(place for place, (_, reason) in enumerate(order) if reason)
    assert {index for index, _ in order[:first_end]} == {0, 1, 2, 3}
    assert sum(reason == "length" for _, reason in order) == 4
