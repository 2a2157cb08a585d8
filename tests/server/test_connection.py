"""A connection is read on while its request is answered, within limits, so that its end is seen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from miaotui.server.connection import Connection, connection_class
from miaotui.server.settings import ServerSettings
from server.test_metrics import Samples
from server.test_slow_clients import connect, read_all
from server.test_supervisor import hold_steps

ASKED = b'{"prompt": "the cat", "max_tokens": 50}'
POST = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
SETTINGS = replace(ServerSettings("tiny"), max_header_bytes=1000)


@pytest.mark.parametrize("behind", [b"", GET[:9], GET, 3 * GET])
def test_who_leaves_is_noticed_whatever_came_behind_the_request(start: Any, behind: bytes) -> None:
    with start(log_format="json", stalled_s=60.0, hung_s=60.0) as running:
        permits = hold_steps(running)
        with connect(running) as client:
            client.sendall(POST % len(ASKED) + ASKED)
            running.until(lambda: running.llm.llm.loaded.engine.scheduler.has_work)
            (connection,) = running.server.server_state.connections
            client.sendall(behind)
            running.until(lambda: connection.conn.trailing_data[0] == behind)
        running.until(lambda: not running.server.server_state.connections)  # a reply would need a step
        permits.release(1000)
        running.until(lambda: running.lines)
    assert json.loads(running.lines[0])["error"] == "ClientGoneError"
    assert len(running.lines) == 1, "who has gone is not answered"


def is_read_after(*parts: bytes) -> list[bool]:
    """Whether a connection is read on, after each of these has come to one whose request is being answered."""
    read: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def main() -> None:
        config = uvicorn.Config(app, ws="none", log_config=None)
        config.load()
        connection: Connection = connection_class(SETTINGS, Mock())(config, ServerState(), {})
        transport = Mock()
        transport.get_extra_info.return_value = None
        transport.is_closing.return_value = False
        connection.connection_made(transport)
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            read.append(not connection.flow.read_paused)
        connection.connection_lost(None)
        await asyncio.gather(*connection.tasks)

    asyncio.run(main())
    return read


def test_only_so_much_is_taken_in_behind_a_request_that_is_answered() -> None:
    assert is_read_after(GET, GET, GET[:20], b"x" * 900, b"x" * 900) == [True, True, True, True, False]


LATE_BODY = b"POST %s HTTP/1.1\r\nhost: localhost\r\nx-request-id: mine\r\ncontent-length: 9\r\n\r\n{"


@pytest.mark.parametrize(
    ("sent", "status", "reason", "request_id"),
    [
        (b"GET /he", 408, "late", "none"),
        (LATE_BODY % b"/tokenize", 408, "late", "mine"),
        (b"\x16\x03\x01\r\n\r\n", 400, "malformed", "none"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 2000, 431, "header", "none"),
        (b"", 503, "connections", "none"),
    ],
    ids=["late head", "late body", "no request", "long head", "too many"],
)
def test_what_a_connection_refuses_is_counted_and_written_down_once(
    start: Any, sent: bytes, status: int, reason: str, request_id: str
) -> None:
    limits = {
        "header_timeout_s": 0.5 if sent else 60.0,
        "body_timeout_s": 0.5,
        "max_header_bytes": 1000,
        "log_format": "json",
    }
    with start(**limits, max_connections=1) as running:
        with connect(running) as first:
            if not sent:
                running.until(lambda: running.server.server_state.connections)
            with connect(running) if not sent else first as client:
                client.sendall(sent)
                assert read_all(client).startswith(b"HTTP/1.1 %d " % status)
        running.until(lambda: not running.server.server_state.connections)
        running.until(lambda: running.lines)
        lines = [json.loads(line) for line in running.lines]
        samples = Samples(running)
    assert samples("rejected_total", reason) == 1
    refused = [line for line in lines if line["error"] == f"refused: {reason}"]
    assert [(line["id"], line["status"]) for line in refused] == [(request_id, status)]
    assert sum(line["id"] == request_id for line in lines) == 1, "nothing is written down twice"
    route = "/tokenize" if request_id == "mine" else "other"
    counted = {key[1]: value for key, value in samples.values.items() if key[0] == "miaotui_replies_total"}
    assert counted == {route: 1}


@pytest.mark.parametrize("path", [b"/v1/messages", b"//v1/messages/count_tokens", b"/v1/completions"])
def test_who_is_too_late_is_told_in_the_form_of_the_path(start: Any, path: bytes) -> None:
    with start(body_timeout_s=0.3) as running, connect(running) as client:
        client.sendall(LATE_BODY % path)
        body = json.loads(read_all(client).partition(b"\r\n\r\n")[2])
    form = {"type": "error", "error": {"type": "timeout_error", "message": "the request took too long to arrive."}}
    assert (body == form) == (b"messages" in path)
    assert body["error"]["message"] == form["error"]["message"]
