"""No route without a key, a name of this machine's, or a bounded body."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from miaotui.server import page
from miaotui.server.app import ROUTES
from miaotui.server.guard import OPEN_PATHS
from miaotui.server.keys import parse_keys
from miaotui.server.settings import ServerSettings
from server.conftest import Running

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
KEYS = parse_keys(["secret", "other"], "here")
SPELLINGS = (
    "{}", "/{}", "{}/", "//{}", "{}//", "{}?x=1", "{}%2f", "{}%00", "/.{}", "/./{}", "/x/..{}", "{}/..{}", "{}#x",
    "{};x", "/%2e{}", "http://localhost{}", "*",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
HOSTS = (
    "localhost",
    "LOCALHOST:1",
    "127.0.0.1",
    "[::1]",
    "localhost.",
    "evil.example",
    "",
    "localhost@evil.example",
    "[",
)
WRONG: tuple[dict[str, str], ...] = (
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": "Basic secret"},
    {"authorization": "Bearer "},
    {"authorization": "secret"},
    {"x-api-key": "wrong"},
    {"x-api-key": ""},
    {"cookie": "key=secret"},
)


class RawClient:
    """Sends the path as it is written, which ordinary clients do not; a connection per request."""

    def __init__(self, running: Running) -> None:
        self._address = (urlsplit(running.url).hostname, urlsplit(running.url).port)

    def status(self, method: str, target: str, headers: dict[str, str]) -> int:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        with socket.create_connection(self._address, timeout=60) as client:  # type: ignore[arg-type]
            client.sendall("\r\n".join([*lines, "content-length: 2", "connection: close", "", "{}"]).encode())
            reply = b""
            while part := client.recv(65536):
                reply += part
        return int(reply.split(b" ", 2)[1])


def test_without_a_key_there_is_no_answer_from_any_route(
    start: Any, report_faults: Callable[[str, int, int], None]
) -> None:
    """Every route, and how else its path may be written; every method; odd hosts; every wrong way to give a key."""
    paths = sorted({path.replace("{name:path}", "tiny") for _, path, _ in ROUTES} | page.PATHS)
    asked = [("GET", spelling, "localhost", wrong) for spelling in SPELLINGS for wrong in WRONG[:3]]
    asked += [(method, "{}", "localhost", {}) for method in METHODS]
    asked += [("POST", "{}", host, {}) for host in HOSTS]
    asked += [(method, "{}", "localhost", wrong) for wrong in WRONG for method in ("GET", "POST")]
    with start(keys=KEYS) as running:
        client, answered, cases = RawClient(running), [], 0
        for path in paths:
            for method, spelling, host, wrong in asked:
                target = spelling.format(*[path] * spelling.count("{}"))
                status = client.status(method, target, {"host": host, **wrong})
                cases += 1
                is_open = path in OPEN_PATHS and method in ("GET", "HEAD")
                if status not in ((200,) if is_open else ()) + (400, 401, 403, 404, 405, 421):
                    answered.append((method, target, host, wrong, status))
        for good in ({"authorization": "Bearer secret"}, {"authorization": "bearer  other"}, {"x-api-key": "other"}):
            assert client.status("GET", "/v1/models", {"host": "localhost", **good}) == 200
    assert answered == []
    report_faults("requests without a key", cases, len(answered))


def test_keys_are_tenants_of_their_own() -> None:
    settings = ServerSettings("m", keys=parse_keys(["a", "b"], "here"))
    found = [settings.find_key(key) for key in ("a", "b")]
    assert len({key.tenant for key in found if key is not None}) == 2
    assert settings.find_key("c") is None
    assert settings.find_key("") is None


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "["])
def test_other_names_are_refused(running: Running, host: str) -> None:
    assert httpx.get(running.url + "/v1/models", headers={"host": host}).status_code in (400, 421)


def test_pages_of_other_sites_are_refused(running: Running) -> None:
    url = running.url + "/v1/models"
    assert httpx.get(url, headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(url, headers={"origin": "null"}).status_code == 403
    answer = httpx.get(url, headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://[",
        "http://a]b",
        "http://\u2100.com",
        "http://[::1",
        "http://[v1.x]",
        "//",
        "localhost",
        "",
        "\xff",
        "://",
        "http://",
    ],
)
def test_odd_origins_are_refused(running: Running, origin: str) -> None:
    headers = {"origin": origin.encode("latin-1", "xmlcharrefreplace")}
    for path in ("/v1/models", "/health"):
        reply = httpx.get(running.url + path, headers=headers)
        assert reply.status_code == 403, reply.text
        assert reply.json()["error"]["message"]
    reply = httpx.get(running.url + "/v1/models", headers={"origin": origin.encode()})
    assert reply.status_code == 403, reply.text


def test_a_failure_of_the_guard_itself_is_answered_in_our_form_and_logged(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what the client wrote")

    with start(log_format="json") as running:
        monkeypatch.setattr("miaotui.server.guard.Guard._refusal_of_host", broken)
        reply = httpx.get(running.url + "/v1/models", headers={"x-request-id": "r-1"})
        running.until(lambda: running.lines)
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error")
    assert reply.headers["x-request-id"] == "r-1"
    assert "what the client wrote" not in reply.text
    assert json.loads(running.lines[0])["error"] == "RuntimeError"
    assert [record.getMessage() for record in caplog.records] == ["request r-1 failed"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_413(start: Any, chunked: bool) -> None:
    with start(max_body_bytes=10_000) as running:
        body = b'{"messages": "' + b"x" * 20_000 + b'"}'
        content = iter([body[:8000], body[8000:16_000], body[16_000:]]) if chunked else body
        answer = httpx.post(running.url + "/v1/chat/completions", content=content)
        assert answer.status_code == 413
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"messages": [], "n": 1e999}'])
def test_bodies_that_are_no_request_are_400(running: Running, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        answer = httpx.post(running.url + path, content=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_double_slashes_lead_to_the_route(running: Running) -> None:
    assert httpx.get(running.url + "//v1//models").status_code == 200
    assert httpx.get(running.url + "/nothing").json()["error"]["message"]


def test_health_readiness_and_metrics(running: Running) -> None:
    assert httpx.get(running.url + "/health").json()["status"] == "ok"
    assert httpx.get(running.url + "/ready").status_code == 200
    before = httpx.get(running.url + "/metrics").text
    httpx.post(running.url + "/v1/chat/completions", json=CHAT)
    after = httpx.get(running.url + "/metrics").text

    def value(text: str, name: str) -> float:
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")))

    assert value(after, "miaotui_output_tokens_total") > value(before, "miaotui_output_tokens_total")
    assert value(after, "miaotui_first_token_seconds_count") == value(before, "miaotui_first_token_seconds_count") + 1


def test_tokens_there_and_back(running: Running) -> None:
    answer = httpx.post(running.url + "/tokenize", json={"prompt": "the cat", "add_special_tokens": False}).json()
    assert answer["count"] == len(answer["tokens"]) > 0
    back = httpx.post(running.url + "/detokenize", json={"tokens": answer["tokens"]}).json()
    assert back["prompt"] == "the cat"
    assert httpx.post(running.url + "/detokenize", json={"tokens": [10**9]}).status_code == 400


def test_nobody_pushes_ahead_of_other_tenants(start: Any) -> None:
    body = {"prompt": "x", "max_tokens": 1, "priority": -1}
    with start(keys=KEYS) as running:
        for path, more in (("completions", {}), ("responses", {"input": "x"})):
            reply = httpx.post(f"{running.url}/v1/{path}", json=body | more, headers={"x-api-key": "secret"})
            assert reply.status_code == 400
            assert "priority" in reply.text
    with start() as running:
        assert httpx.post(f"{running.url}/v1/completions", json=body).status_code == 200
