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
from server.test_slow_clients import connect
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
        connection: Connection = connection_class(SETTINGS)(config, ServerState(), {})
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
