"""One line per request, which never holds what was asked, what was answered, or a key; nobody can forge one."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import Any, get_args

import httpx2 as httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui.config import LogFormat
from miaotui.server.keys import parse_keys
from miaotui.server.logs import LogFormatter, LogHandler, LogWriter, clean, line_of

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "the zebra"}],
    "max_tokens": 5,
    "temperature": 0,
    "ignore_eos": True,
}


def test_a_request_is_one_line_that_says_what_it_cost(start: Any) -> None:
    keys = parse_keys(["s3cret alice"], "here")
    with start(log_format="json", keys=keys) as running:
        headers = {"authorization": "Bearer s3cret", "x-request-id": "mine-1"}
        for _ in range(2):
            reply = httpx.post(running.url + "/v1/chat/completions?q=hush", json=CHAT, headers=headers)
            assert reply.headers["x-request-id"] == reply.headers["x-miaotui-receipt"] == "mine-1"
        httpx.get(running.url + "/v1/models", headers={"x-api-key": "wr0ng"})
        reply = httpx.post(running.url + "/v1/chat/completions", headers=headers, json={**CHAT, "temperature": -1})
        running.until(lambda: len(running.lines) == 4)
    first, second, stranger, bad = map(json.loads, running.lines)
    assert (first["id"], first["tenant"], first["method"]) == ("mine-1", keys[0].tenant, "POST")
    assert [line["key_name"] for line in (first, stranger, bad)] == ["alice", None, "alice"]
    assert "alice" not in reply.text + str(reply.headers)
    assert (first["path"], first["status"], first["finish"]) == ("/v1/chat/completions", 200, "length")
    assert (first["cached_tokens"], first["output_tokens"]) == (0, 5)
    assert second["cached_tokens"] > 0
    assert first["prompt_tokens"] == second["prompt_tokens"] > 5
    assert first["ms"] >= first["first_byte_ms"] > 0
    assert (stranger["status"], stranger["error"], stranger["tenant"]) == (401, "UnauthorizedError", None)
    assert (bad["status"], bad["error"], bad["output_tokens"]) == (400, "InvalidRequestError", 0)
    for hidden in ("zebra", "s3cret", "wr0ng", "hush", reply.text[20:40]):
        assert hidden not in "".join(running.lines)


def test_who_leaves_is_charged_for_what_was_said(start: Any) -> None:
    with start(log_format="json") as running:
        body = {**CHAT, "max_tokens": 150, "stream": True}
        with httpx.stream("POST", running.url + "/v1/chat/completions", json=body) as reply:
            for _ in zip(range(8), reply.iter_lines(), strict=False):
                pass
        running.until(lambda: running.lines)
    line = json.loads(running.lines[0])
    assert line["finish"] == "cancelled"
    assert 0 < line["output_tokens"] < 150
    assert line["prompt_tokens"] > 0


@pytest.mark.parametrize("wanted", ["", "a" * 129, "a b", "a%0ab", "é", "a;b", '{"x"}'])
def test_odd_request_ids_are_replaced(start: Any, wanted: str) -> None:
    with start(log_format="text") as running:
        headers = {"x-request-id": wanted.encode()}
        given_id = httpx.get(running.url + "/health%0aid=forged status=200", headers=headers).headers["x-request-id"]
        assert given_id != wanted
        assert given_id.isalnum()
        running.until(lambda: running.lines)
    assert len(running.lines) == 1
    assert f"id={given_id}" in running.lines[0]
    assert "%0A" in running.lines[0]
    assert " id=forged" not in running.lines[0]


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_value_makes_a_second_line_or_a_field_of_its_own(path: str, error: str) -> None:
    assert clean(path).isascii()
    assert clean(path).isprintable()
    assert not set(' "\\') & set(clean(path))
    for log_format in get_args(LogFormat):
        line = line_of({"path": clean(path), "error": error}, log_format)
        assert len(line.splitlines()) == 1
        if log_format == "json":
            assert json.loads(line)["error"] == error
        else:
            assert [word.split("=")[0] for word in line.split(" ")[:3]] == ["time", "path", "error"]


def test_an_exception_is_logged_without_its_message() -> None:
    text = "request %s failed\nfuture: <Task exception=KeyError('what the client wrote')>"  # as asyncio writes it
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, text, ("id1",), None)
    try:
        raise KeyError("what the client wrote")
    except KeyError as error:
        record.exc_info = (KeyError, error, error.__traceback__)
    line = LogFormatter("json").format(record)
    assert "what the client wrote" not in line
    assert json.loads(line)["error"] == "KeyError"
    assert json.loads(line)["message"] == "request id1 failed"
    assert "test_logs.py" in json.loads(line)["where"]


def test_nobody_waits_for_a_log_that_is_not_read() -> None:
    reading, writing = os.pipe()
    read: list[int] = []
    with os.fdopen(reading, "rb") as source:
        reader = threading.Thread(target=lambda: read.append(len(source.readlines())))
        with os.fdopen(writing, "w") as stream:
            writer = LogWriter(stream)
            written = 0
            while not writer.num_dropped:
                writer.write("x" * 100)
                written += 1
            dropped = writer.num_dropped
            LogHandler(writer, "text").emit(logging.LogRecord("x", logging.ERROR, "", 1, "%d", ("no number",), None))
            num_dropped = writer.num_dropped
            reader.start()
            writer.close(60)
        reader.join(60)
    assert num_dropped == dropped + 1
    assert read == [written - dropped]
