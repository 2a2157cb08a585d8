"""Log-probabilities are the same in whole answers and in streams, and nobody waits while many are written down."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(
    ("path", "name"), [(CHAT, "chat.chat_logprobs"), (COMPLETIONS, "completions.LogprobLists.write")]
)
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


def joined(entries: list[dict[str, Any] | None]) -> dict[str, Any]:
    """The log-probabilities of a stream's chunks as those of one answer."""
    whole: dict[str, Any] = {}
    for entry in entries:
        for field, values in (entry or {}).items():
            whole[field] = None if values is None else whole.get(field, []) + values
    return whole


def streamed(running: Running, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any], list[str]]:
    """Text and log-probabilities of a stream, and the text of each of its chunks."""
    choices: list[dict[str, Any]] = []
    with httpx.stream("POST", running.url + path, json=body | {"stream": True}, timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                choices += json.loads(line[6:])["choices"]
    texts = [choice["delta"]["content"] if path == CHAT else choice["text"] for choice in choices]
    return "".join(texts), joined([choice["logprobs"] for choice in choices]), texts


def whole(running: Running, path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The same of an answer that is not streamed."""
    (choice,) = httpx.post(running.url + path, json=body, timeout=60).json()["choices"]
    return choice["message"]["content"] if path == CHAT else choice["text"], choice["logprobs"]


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("seed", range(3))
def test_streamed_logprobs_are_those_of_the_whole_answer(running: Running, path: str, seed: int) -> None:
    body = SEEDED | ASKED[path] | {"seed": seed}
    text, logprobs = whole(running, path, body)
    assert len(next(iter(logprobs.values()))) == 40
    assert streamed(running, path, body)[:2] == (text, logprobs)


@pytest.mark.parametrize("path", ASKED)
def test_so_are_those_of_text_that_was_held_back(running: Running, path: str) -> None:
    body = SEEDED | ASKED[path]
    text, logprobs = whole(running, path, body)
    stop = text[20:26]
    never = text[8:14] + "\0"  # held back as far as it agrees, then shown after all
    stopped = body | {"stop": [stop, never]}
    cut, fewer = whole(running, path, stopped)
    assert cut == text[: text.index(stop)]
    for field, values in fewer.items():
        assert values is None or values == logprobs[field][: len(values)]
        assert values is None or len(values) < 40
    streamed_text, streamed_logprobs, _ = streamed(running, path, stopped)
    assert (streamed_text, streamed_logprobs) == (cut, fewer)


@pytest.mark.parametrize(
    "prompt", ["the cat", "héé 猫🐈 x", [1, 60, 61, 62]], ids=["words", "characters of many bytes", "ids"]
)
@pytest.mark.parametrize("echo", [False, True])
def test_tokens_are_texts_that_stand_where_is_said(running: Running, prompt: Any, echo: bool) -> None:
    text, logprobs = whole(running, COMPLETIONS, SEEDED | {"prompt": prompt, "logprobs": 2, "echo": echo})
    tokens, offsets = logprobs["tokens"], logprobs["text_offset"]
    assert all(isinstance(token, str) for token in tokens)
    assert logprobs["token_logprobs"].count(None) == logprobs["top_logprobs"].count(None) == echo
    assert (logprobs["token_logprobs"][0] is None) == (logprobs["top_logprobs"][0] is None) == echo
    assert {len(values) for values in logprobs.values()} == {len(tokens)}
    assert len(tokens) > 40 or not echo
    assert offsets == sorted(offsets)
    is_odd = [
        (len(token) > 1 and token[0] == "<") or "\ufffd" in token for token in tokens
    ]  # control, half a character
    places = [place for place, odd in enumerate(is_odd) if not odd and not (place and is_odd[place - 1])]
    assert len(places) > 3
    assert [text[offsets[place] :][: len(tokens[place])] for place in places] == [tokens[place] for place in places]
