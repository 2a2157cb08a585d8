"""Clients that never finish, never read or never leave: each is cut off in time, and others do not notice."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from miaotui.config import load_serve_config
from server.conftest import Running

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
HALF_OPEN = 500


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(running: Running, *, receive_bytes: int = 0) -> socket.socket:
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect((urlsplit(running.url).hostname, urlsplit(running.url).port))
    return client


def read_all(client: socket.socket) -> bytes:
    """What the server sends until it closes, which it must."""
    client.settimeout(60)
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def read_one(client: socket.socket) -> bytes:
    """A reply of JSON, on a connection that stays open."""
    client.settimeout(60)
    reply = b""
    while not reply.endswith(b"}"):
        reply += (part := client.recv(65536))
        assert part
    return reply


@contextmanager
def healthy_requests(running: Running) -> Iterator[list[int]]:
    """Somebody asks all the time; their statuses."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            statuses.append(httpx.post(running.url + "/v1/chat/completions", json=CHAT, timeout=60).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield statuses
    finally:
        over.set()
        asking.join()


def seconds_until_closed(clients: list[socket.socket], most_s: float) -> list[float]:
    """When the server closed each, counted from now; those it did not close are left out."""
    begin_s, closed_s = time.monotonic(), []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() - begin_s < most_s:
            for key, _ in selector.select(0.1):
                try:
                    is_open = bool(key.fileobj.recv(65536))  # type: ignore[union-attr]
                except ConnectionError:
                    is_open = False
                if not is_open:
                    selector.unregister(key.fileobj)
                    closed_s.append(time.monotonic() - begin_s)
    return closed_s


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("header", (b"", b"GET /v1/mod", b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nx: ")),
        ("body", (b'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900\r\n\r\n{"prompt": ',)),
    ],
)
def test_half_open_connections_are_closed_while_others_are_answered(
    start: Any, kind: str, sent: tuple[bytes, ...], report_faults: Callable[[str, int, int], None]
) -> None:
    defaults = load_serve_config({}, {})
    assert defaults.header_timeout_s < 10
    assert defaults.body_timeout_s < 30
    assert defaults.max_connections >= HALF_OPEN
    timeouts = {"header_timeout_s": 60.0, "body_timeout_s": 60.0} | {f"{kind}_timeout_s": 2.0}
    with start(**timeouts) as running:
        with ExitStack() as stack, healthy_requests(running) as statuses:
            clients = [stack.enter_context(connect(running)) for _ in range(HALF_OPEN)]
            for number, client in enumerate(clients):
                client.sendall(sent[number % len(sent)])
            closed_s = seconds_until_closed(clients, 20)
            num_answered = len(statuses)
        assert num_answered > 0
        assert set(statuses) == {200}
        late = sum(seconds > 2 + 8 for seconds in closed_s)  # the timeout, and what 500 of them take on a busy machine
        report_faults(f"half-open connections ({kind})", len(clients), len(clients) - len(closed_s) + late)
        running.until(lambda: not running.server.server_state.connections)


def test_single_bytes_do_not_put_the_end_off(start: Any) -> None:
    with start(header_timeout_s=0.5) as running, connect(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        begin_s = time.monotonic()
        client.settimeout(0.05)
        reply = b""
        while time.monotonic() - begin_s < 30:
            try:
                client.sendall(b"x")
                reply += (part := client.recv(4096))
                if not part:
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - begin_s < 30
        assert reply == b"" or reply.startswith(b"HTTP/1.1 408 ")


def test_who_is_too_late_is_told(start: Any) -> None:
    with start(header_timeout_s=0.3, body_timeout_s=0.3, log_format="json") as running:
        for sent in (b"GET /he", b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{"):
            with connect(running) as client:
                client.sendall(sent)
                head, _, body = read_all(client).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert json.loads(body)["error"]["message"]
        running.until(lambda: len(running.lines) == 2)
    assert [json.loads(line)["error"] for line in running.lines] == ["refused: late"] * 2


def test_a_second_request_has_a_deadline_of_its_own(start: Any) -> None:
    with start(header_timeout_s=0.5, idle_timeout_s=60) as running, connect(running) as client:
        for _ in range(3):
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert read_one(client).startswith(b"HTTP/1.1 200 ")
        time.sleep(1)  # longer than a head may take: an idle connection owes none
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea")
        rest = read_all(client)
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in rest


def test_idle_connections_are_closed(start: Any) -> None:
    with start(idle_timeout_s=0.3) as running, connect(running) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert read_all(client).startswith(b"HTTP/1.1 200 ")


def test_connections_beyond_the_limit_are_refused_and_those_there_go_on(start: Any) -> None:
    with start(max_connections=3) as running, ExitStack() as stack:
        there = [stack.enter_context(connect(running)) for _ in range(3)]
        running.until(lambda: len(running.server.server_state.connections) == 3)
        with connect(running) as client:
            refusal = read_all(client)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refusal
        there[0].sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert read_one(there[0]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("in_pieces", [False, True])
def test_headers_that_are_too_long_are_431(start: Any, in_pieces: bool) -> None:
    with start(max_header_bytes=10_000) as running, connect(running) as client:
        lines = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 100) for number in range(120))
        whole = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" + lines
        client.sendall(whole if in_pieces else whole + b"\r\n")  # without its end it is in pieces
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["error"]["message"]


def test_what_is_no_http_is_400_in_our_form(start: Any) -> None:
    with start() as running, connect(running) as client:
        client.sendall(b"\x16\x03\x01\x00\xa5\x01\r\n\r\n")
        head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["message"]


def test_a_reader_who_stalls_is_cancelled_and_cut_off(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miaotui.engine.answer.MAX_UNREAD_BYTES", 100_000)
    with start({"context_length": 1000, "max_sequences": 8}, send_timeout_s=1.0, log_format="json") as running:
        body = {"prompt": "x", "n": 8, "max_tokens": 900, "ignore_eos": True, "stream": True, "logprobs": 20}
        raw = json.dumps(body).encode()
        with connect(running, receive_bytes=4096) as client, healthy_requests(running) as statuses:
            head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(raw)}\r\n\r\n"
            client.sendall(head.encode() + raw)
            stalled = "SlowReaderError"
            running.until(lambda: any(stalled in line for line in running.lines))
        line = json.loads(next(line for line in running.lines if stalled in line))
        assert line["finish"] == "cancelled"
        assert line["output_tokens"] < 8 * 900
        assert set(statuses) == {200}
        running.until(lambda: not running.llm.llm.loaded.engine.scheduler.has_work)
        running.llm.llm.loaded.engine.check_integrity()
        running.until(lambda: not running.server.server_state.connections)
