"""One request against servers that answer well, oddly, or not at all."""

from __future__ import annotations

import asyncio
from email.utils import format_datetime
from typing import Any

import pytest

from load.fake_server import (
    DONE,
    GOOD,
    HEAD,
    Asked,
    FakeServer,
    Writer,
    answering,
    chunked,
    piece,
    raw,
    refuse,
    reply,
    serving,
    stream,
    usage,
)  # fmt: skip
from miaotui.load import client as client_module
from miaotui.load.client import Client, open_session, retry_after_s
from miaotui.load.outcome import Outcome
from miaotui.load.prompts import Job
from miaotui.load.shapes import Shape

JOB = Job(0, Shape(1, 1), b'{"some": "body"}')


def ask(server: FakeServer, times: int = 1, *, key: str | None = None, **options: Any) -> list[Outcome]:
    async def main() -> list[Outcome]:
        async with serving(server), open_session(key) as session:
            client = Client(session, server.url + "/v1/chat/completions", **options)
            return [await client.ask(JOB, client.now()) for _ in range(times)]

    return asyncio.run(main())


def kind_of(server: FakeServer, **options: Any) -> str | None:
    (outcome,) = ask(server, **options)
    assert outcome.end_s >= outcome.sent_s
    return outcome.fault.kind if outcome.fault else None


def test_an_answer_has_times_and_counts_and_the_key_is_sent() -> None:
    server = answering()
    (outcome,) = ask(server, key="secret")
    assert outcome.fault is None
    assert (outcome.prompt_tokens, outcome.output_tokens, len(outcome.content_s)) == (7, 3, 3)
    assert outcome.due_s <= outcome.sent_s <= outcome.content_s[0] <= outcome.content_s[-1] <= outcome.end_s
    assert server.asked[0].headers["authorization"] == "Bearer secret"
    assert server.asked[0].headers["content-type"] == "application/json"
    assert server.asked[0].body == JOB.body


def test_the_first_piece_is_timed_when_it_comes_not_when_the_stream_ends() -> None:
    now = [0.0]

    async def paced(asked: Asked, writer: Writer) -> None:
        writer.write(HEAD)
        for number, part in enumerate((piece("a"), piece("b"), usage(7, 2), DONE)):
            now[0] = 10.0 + number
            writer.write(chunked(part))
            while len(seen) <= number:
                await asyncio.sleep(0)
        now[0] = 20.0
        writer.write(b"0\r\n\r\n")

    seen: list[float] = []

    def clock() -> float:
        if now[0] >= 10:
            seen.append(now[0])
        return now[0]

    (outcome,) = ask(answering(paced), now=clock)
    assert outcome.content_s == [10, 11]
    assert outcome.end_s == 13


def test_connections_are_used_again() -> None:
    server = answering()
    assert [outcome.fault for outcome in ask(server, 3)] == [None] * 3
    assert [asked.connection for asked in server.asked] == [1, 1, 1]


def test_a_reply_that_does_not_end_behind_done_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LINGER_S", 0.01)
    good = (piece("a"), usage(7, 1), DONE)
    assert [outcome.fault for outcome in ask(answering(stream(*good, end=False)), 2, timeout_s=600)] == [None, None]
    broken = raw(HEAD + b"".join(map(chunked, good)), close=True)
    assert ask(answering(broken))[0].fault is None


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (refuse(500, "no"), "http_500"),
        (refuse(429, "busy"), "http_429"),
        (reply(404, b"<h1>Not Found</h1>", "text/html"), "http_404"),
        (reply(307, b"", location="http://127.0.0.1:1/elsewhere"), "http_307"),
        (reply(200, b'{"choices": []}'), "not_a_stream"),
        (stream(piece("a"), b'data: {"error": {"message": "oh"}}\n\n', DONE), "stream_error"),
        (stream(piece("a"), b"data: {nonsense\n\n", DONE), "invalid_event"),
        (stream(piece("a")), "cut_short"),
        (raw(b"", close=True), "disconnected"),
        (raw(HEAD + chunked(piece("a")), close=True), "disconnected"),
        (raw(b"what is HTTP?\r\n\r\n", close=True), "invalid_http"),
        (raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", close=True), "invalid_http"),
    ],
)  # fmt: skip
def test_bad_servers_are_faults_by_kind(script: Any, kind: str) -> None:
    assert kind_of(answering(script)) == kind


def test_a_body_that_is_not_chunked_as_it_says_is_a_fault() -> None:
    kind = kind_of(answering(raw(HEAD + b"zz\r\nnot hexadecimal\r\n", close=True)))
    assert kind in ("invalid_http", "disconnected")  # whether head and body come in one read is the network's choice


def test_a_reset_connection_is_a_fault() -> None:
    async def reset(asked: Asked, writer: Writer) -> None:
        writer.write(HEAD + chunked(piece("a")))
        await writer.drain()
        writer.transport.abort()

    assert kind_of(answering(reset)) == "disconnected"


def test_nobody_there_is_a_fault() -> None:
    async def main() -> Outcome:
        async with open_session(None) as session:
            return await Client(session, "http://127.0.0.1:1/v1/chat/completions").ask(JOB, 0)

    fault = asyncio.run(main()).fault
    assert fault is not None
    assert fault.kind == "connect"


def test_silence_is_a_timeout_with_and_without_a_beginning() -> None:
    for script in (raw(b""), stream(piece("a"), end=False)):
        assert kind_of(answering(script), timeout_s=0.05) == "timeout"


def test_endless_replies_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_REPLY_BYTES", 10_000)

    async def endless(asked: Asked, writer: Writer) -> None:
        writer.write(HEAD)
        while not writer.is_closing():
            writer.write(chunked(piece("a") * 100))
            await writer.drain()

    assert kind_of(answering(endless)) == "too_large"


def test_retries_happen_only_when_asked_for_and_count_from_the_first_attempt() -> None:
    def busy() -> FakeServer:
        return answering(refuse(429, "busy", retry_after="0"), refuse(429, "busy", retry_after="0"), GOOD)

    server = busy()
    assert kind_of(server) == "http_429"
    assert len(server.asked) == 1
    server = busy()
    (outcome,) = ask(server, retry=True)
    assert (outcome.fault, outcome.num_retries, len(server.asked)) == (None, 2, 3)
    assert outcome.first_token_s >= 2 * client_module.LEAST_WAIT_S
    assert kind_of(answering(refuse(429, "busy", retry_after="1000")), retry=True, timeout_s=0.05) == "timeout"


def test_retry_after_is_read_in_both_forms() -> None:
    from datetime import UTC, datetime, timedelta

    assert retry_after_s("7") == 7
    assert 50 < retry_after_s(format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)) <= 60
    least = client_module.LEAST_WAIT_S
    assert retry_after_s("0") == retry_after_s("-5") == retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT") == least
    assert [retry_after_s(text) for text in ("", "soon", "nan", "inf")] == [1, 1, 1, 1]
