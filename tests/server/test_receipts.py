"""Every reply names its request, and tells those who ask which way it took and what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.server.app import ROUTES
from miaotui.server.guard import Guard
from miaotui.server.keys import parse_keys
from miaotui.server.settings import ServerSettings
from server.bodies import GOOD
from server.conftest import Running, serve
from server.test_slow_clients import connect, read_all
from server.test_supervisor import break_step

ANSWERING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings")
STREAMING = ANSWERING[:-1]
SETTINGS = ServerSettings("tiny", embed_model_name="tiny-bert", log_format="json")
POST = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx-request-id: mine\r\n"


@pytest.fixture(scope="module")
def server(tiny_model: Any, tiny_bert: Any) -> Iterator[Running]:
    cache = AnswerCache([DictStore()], b"s" * 32)
    with serve(tiny_model, SETTINGS, encoder=tiny_bert, cache=cache) as running:
        yield running


def names(reply: httpx.Response) -> tuple[str | None, str | None]:
    return reply.headers.get("x-miaotui-receipt"), reply.headers.get("x-request-id")


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_every_reply_of_every_route_names_its_request(
    server: Running, kind: str, report_faults: Callable[[str, int, int], None]
) -> None:
    nameless, statuses = [], set()
    for number, (method, path, _) in enumerate(ROUTES):
        target, name = path.replace("{name:path}", "tiny"), f"{kind}-{number}"
        if kind == "wrong":
            reply = httpx.request("PUT", server.url + target, json=[], headers={"x-request-id": name})
        else:
            body = GOOD[path] if method == "POST" else None
            reply = httpx.request(method, server.url + target, json=body, headers={"x-request-id": name})
        statuses.add(reply.status_code)
        if names(reply) != (name, name):
            nameless.append((method, path, reply.status_code))
        server.until(lambda name=name: any(json.loads(line)["id"] == name for line in server.lines))
    assert statuses == ({405} if kind == "wrong" else {200, 404})
    assert not nameless
    report_faults(f"routes asked the {kind} way, replies without a receipt", len(ROUTES), len(nameless))


@pytest.mark.parametrize("path", sorted(GOOD))
def test_what_is_refused_names_its_request(server: Running, path: str) -> None:
    for content in (b"{", b"[]", b"\xff"):
        reply = httpx.post(server.url + path, content=content, headers={"x-request-id": "no"})
        assert reply.status_code in (400, 404)
        assert names(reply) == ("no", "no")


def refusals(start: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, httpx.Response]]:
    """Each status that an error may have, with such a reply."""
    chat, head = "/v1/chat/completions", {"x-request-id": "no"}
    body: dict[str, Any] = GOOD[chat]
    keys, key = parse_keys(["one"], "here"), {"authorization": "Bearer one"}
    limits = {"keys": keys, "rate_limit_requests": 1, "max_body_bytes": 200, "max_header_bytes": 500}
    with start(**limits) as running:
        url = running.url + chat
        yield 401, httpx.post(url, json=body, headers=head)
        yield 403, httpx.post(url, json=body, headers=head | {"origin": "http://evil.example"})
        yield 421, httpx.post(url, json=body, headers=head | {"host": "evil.example"})
        yield 413, httpx.post(url, json=body | {"user": "x" * 300}, headers=head | key)
        yield 431, httpx.post(url, json=body, headers=head | key | {f"x-{i}": "y" * 50 for i in range(9)})
        yield 404, httpx.get(running.url + "/nothing", headers=head | key)
        yield 405, httpx.get(url, headers=head | key)
        yield 200, httpx.post(url, json=body, headers=head | key)
        yield 429, httpx.post(url, json=body, headers=head | key)
    with start() as running:
        url = running.url + chat
        yield 400, httpx.post(url, json=body | {"temperature": -1}, headers=head)
        yield 422, httpx.post(url, json=body | {"max_tokens": 100, "deadline_ms": 1e-6}, headers=head)
        break_step(running)
        yield 503, httpx.post(url, json=body, headers=head)
        monkeypatch.setattr(Guard, "_refusal_of_host", lambda *_: 1 / 0)
        yield 500, httpx.post(url, json=body, headers=head)


def test_errors_of_every_status_name_their_requests(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, reply in refusals(start, monkeypatch):
        assert reply.status_code == status, reply.text
        assert names(reply) == ("no", "no"), status


@pytest.mark.parametrize(
    ("sent", "status", "name"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400, "none"),
        (b"GET /hea", 408, "none"),
        (POST + b"x: " + b"y" * 2000, 431, "none"),
        (POST + b"content-length: 9\r\n\r\n{", 408, "mine"),
    ],
)
def test_what_the_connection_refuses_is_named_if_a_request_has_begun(
    start: Any, sent: bytes, status: int, name: str
) -> None:
    timeouts = {"header_timeout_s": 0.3, "body_timeout_s": 0.3, "max_header_bytes": 1000}
    with start(**timeouts) as running, connect(running) as client:
        client.sendall(sent)
        assert_named(read_all(client), status, name)


def test_a_connection_too_many_is_refused_with_a_receipt(start: Any) -> None:
    with start(max_connections=0) as running, connect(running) as client:
        assert_named(read_all(client), 503, "none")


def assert_named(reply: bytes, status: int, name: str) -> None:
    first, *lines = reply.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert first.split()[1] == str(status)
    assert f"x-miaotui-receipt: {name}" in lines
    assert ("x-request-id: mine" in lines) == (name == "mine")


@pytest.mark.parametrize("path", ANSWERING)
def test_the_receipt_is_told_to_those_who_ask_for_it(server: Running, path: str) -> None:
    for asked in (None, False):
        reply = httpx.post(server.url + path, json=GOOD[path] | {"miaotui": asked})
        assert reply.status_code == 200, reply.text
        assert "miaotui" not in reply.json()
    told = httpx.post(server.url + path, json=GOOD[path] | {"miaotui": True}).json()["miaotui"]
    assert told["path"] == "model"
    assert {"cached_tokens", "drafted_tokens", "accepted_tokens", "queue_ms", "prefill_ms", "decode_ms"} <= told.keys()
    assert told["queue_ms"] > 0
    assert told["prefill_ms"] > 0
    assert httpx.post(server.url + path, json=GOOD[path] | {"miaotui": 1}).status_code == 400


@pytest.mark.parametrize("path", STREAMING)
def test_a_stream_tells_it_once_at_its_end(server: Running, path: str) -> None:
    def told(**more: Any) -> list[Any]:
        reply = httpx.post(server.url + path, json=GOOD[path] | {"stream": True} | more, headers={"x-request-id": "s"})
        assert names(reply) == ("s", "s")
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        bodies = [event.get("response", event) for event in events]
        assert bodies
        assert not any("miaotui" in body for body in bodies[:-2])  # Anthropic's last event says that it is the last
        return [body["miaotui"] for body in bodies if "miaotui" in body]

    assert told() == []
    (receipt,) = told(miaotui=True)
    assert receipt["path"] == "model"
