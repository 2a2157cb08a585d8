"""Finding the server's model, and how it makes tokens of words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from load.fake_server import FakeServer, Script, answering, as_json, refuse, reply, serving
from miaotui.errors import ConfigError, MiaotuiError, ModelNotFoundError, ServerReplyError, UnauthorizedError
from miaotui.load.client import open_session
from miaotui.load.prompts import Scale, Writer
from miaotui.load.target import Target, find_target, measure_scale, root_of


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        ("http://h:8000/v1/", "http://h:8000"),
        ("https://h/some/path/v1", "https://h/some/path"),
        ("localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_the_address_may_be_written_in_many_ways(url: str, root: str) -> None:
    assert root_of(url) == root


@pytest.mark.parametrize(
    "url", ["", "ftp://h", "http://", "http://h:99999", "http://h:x", "http://h/v1?a=b", "http://["]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="like http"):
        root_of(url)


def models(*names: Any) -> Script:
    return as_json({"data": [{"id": name, "owned_by": "o"} for name in names]})


def find(listed: Script, model: str | None = None) -> Target:
    async def main(server: FakeServer) -> Target:
        async with serving(server), open_session(None) as session:
            return await find_target(session, server.url, model)

    return asyncio.run(main(FakeServer({"/v1/models": [listed]})))


def test_the_only_model_is_taken_and_any_may_be_named() -> None:
    assert (find(models("a")).model, find(models("a")).owner) == ("a", "o")
    assert find(models("a", "b"), "b").model == "b"
    assert find(as_json({"data": []}), "b").model == "b"  # a server that lists nothing


@pytest.mark.parametrize(
    ("listed", "model", "error", "said"),
    [
        (models("one", "two"), "three", ModelNotFoundError, "one, two"),
        (models("one", "two"), None, ConfigError, "one, two"),
        (models(), None, ServerReplyError, "--model"),
        (models(None, 7), None, ServerReplyError, "--model"),
        (as_json([1]), None, ServerReplyError, "--model"),
        (as_json({"data": 7}), None, ServerReplyError, "--model"),
        (refuse(401, "who?"), None, UnauthorizedError, "--api-key-file"),
        (refuse(404, "no"), None, ServerReplyError, "before /v1"),
        (reply(200, b"<html>", "text/html"), None, ServerReplyError, "JSON"),
        (reply(200, b"[" * 100_000), None, ServerReplyError, "JSON"),
    ],
)
def test_problems_say_what_to_do(listed: Script, model: str | None, error: type[MiaotuiError], said: str) -> None:
    with pytest.raises(error, match=said):
        find(listed, model)


def test_nobody_there_says_so() -> None:
    async def main() -> None:
        async with open_session(None) as session:
            await find_target(session, "http://127.0.0.1:1", None)

    with pytest.raises(ServerReplyError, match="start the server"):
        asyncio.run(main())


def scale(server: FakeServer, endpoint: str = "chat") -> Scale:
    async def main() -> Scale:
        async with serving(server), open_session(None) as session:
            return await measure_scale(session, Target(server.url, "m"), Writer("m", endpoint))

    return asyncio.run(main())


async def counted(asked: Any, writer: Any) -> None:
    words = len((asked.json.get("prompt") or asked.json["messages"][0]["content"]).split())
    assert asked.json["max_tokens"] == 1
    assert not asked.json.get("stream")
    await as_json({"choices": [], "usage": {"prompt_tokens": 2 * words + 5}})(asked, writer)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_tokens_are_asked_of_tokenize_else_seen_in_usage_else_guessed(endpoint: str) -> None:
    assert scale(answering(), endpoint) == Scale(1, 3, "/tokenize")
    path = "/v1/chat/completions" if endpoint == "chat" else "/v1/completions"
    assert scale(FakeServer({path: [counted]}), endpoint) == Scale(2, 5, "usage")
    assert scale(FakeServer({path: [as_json({"choices": []})]}), endpoint) == Scale(1, 0, "guess")
    assert scale(FakeServer({"/tokenize": [as_json({"count": "many"})]}), endpoint).source == "guess"
