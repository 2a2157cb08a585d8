"""No route without a key, a name of this machine's, or a bounded body."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from miaotui.server.app import ROUTES
from miaotui.server.guard import OPEN_PATHS
from miaotui.server.keys import parse_keys
from miaotui.server.settings import ServerSettings
from server.conftest import Running

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
SPELLINGS = ("{}", "/{}", "{}/", "//{}", "{}?x=1", "{}%2f", "/./{}")


def test_every_route_wants_the_key(start: Any) -> None:
    with start(keys=parse_keys(["secret", "other"], "here")) as running, httpx.Client() as client:
        for method, path, _ in ROUTES:
            for spelling in SPELLINGS:
                url = running.url + spelling.format(path.replace("{name:path}", "tiny"))
                for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
                    status = client.request(method, url, headers=headers, content=b"{}").status_code
                    open_path = path in OPEN_PATHS and spelling in ("{}", "/{}", "//{}", "{}?x=1", "/./{}")
                    assert status == (200 if open_path else 401), (url, status)
        for headers in ({"authorization": "Bearer secret"}, {"x-api-key": "other"}):
            assert client.get(running.url + "/v1/models", headers=headers).status_code == 200


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


def test_every_reply_has_a_receipt(running: Running) -> None:
    body = {**CHAT, "miaotui": True}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body)
    assert answer.headers["x-miaotui-receipt"] in answer.json()["id"]
    assert answer.json()["miaotui"]["path"] == "model"
