"""All bodies together take no more than their budget, and each gives its part back, however its request ends."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

import httpx2 as httpx
import pytest

from miaotui.errors import OverloadedError
from miaotui.server.body_budget import FREE_BYTES, BodyBudget
from server.conftest import Running
from server.test_metrics import Samples
from server.test_slow_clients import connect, read_one
from server.test_supervisor import hold_steps

MOST = 1 << 20
LIMITS: dict[str, Any] = {"max_body_bytes": MOST, "num_largest_bodies": 2}
BEGIN, END = b'{"prompt": "hi", "unknown": "', b'"}'
LARGEST = BEGIN + b"x" * (MOST - len(BEGIN + END)) + END


def begin(running: Running, sent: bytes, *, path: str = "/tokenize", more: int = 1) -> socket.socket:
    """A client who has sent so much, and owes so much more."""
    client, length = connect(running), len(sent) + more
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    client.sendall(head.encode() + sent)
    return client


def used(running: Running) -> int:
    return running.server._guard.bodies.used_bytes


def test_long_bodies_are_refused_while_others_take_the_room_and_short_ones_never(start: Any) -> None:
    with start(**LIMITS) as running, ExitStack() as stack:
        slow = [stack.enter_context(begin(running, LARGEST[:-1])) for _ in range(2)]
        running.until(lambda: used(running) == 2 * (MOST - 1 - FREE_BYTES))
        for content in (LARGEST, iter([LARGEST[:-9], LARGEST[-9:]])):
            reply = httpx.post(running.url + "/tokenize", content=content)
            assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
            assert reply.json()["error"]["code"] == "overloaded"
        assert Samples(running)("rejected_total", "bodies") == 2
        short = BEGIN + b"x" * (FREE_BYTES - len(BEGIN + END)) + END
        assert httpx.post(running.url + "/tokenize", content=short).status_code == 200
        for client in slow:
            client.sendall(LARGEST[-1:])
            assert read_one(client).startswith(b"HTTP/1.1 200 ")
        running.until(lambda: used(running) == 0)
        for _ in range(3):
            assert httpx.post(running.url + "/tokenize", content=LARGEST).status_code == 200


def test_many_at_once_never_take_more_than_there_is(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    most, take = 0, BodyBudget.take

    def noted(budget: BodyBudget, num_bytes: int) -> None:
        nonlocal most
        take(budget, num_bytes)
        most = max(most, budget.used_bytes)

    monkeypatch.setattr(BodyBudget, "take", noted)
    with start(**LIMITS) as running, ExitStack() as stack:
        clients = [stack.enter_context(begin(running, LARGEST[:-1])) for _ in range(12)]
        for client in clients:
            client.sendall(LARGEST[-1:])
        statuses = {read_one(client).split(b" ", 2)[1] for client in clients}
        running.until(lambda: used(running) == 0)
    assert statuses == {b"200", b"429"}
    assert MOST < most <= 2 * MOST


@pytest.mark.parametrize(
    ("sent", "status"),
    [(LARGEST[:-2] + b" }", 400), (LARGEST[:-1], 408), (b"[" * MOST, 400)],
    ids=["no JSON", "late", "too deep"],
)
def test_a_request_that_fails_gives_its_part_back(start: Any, sent: bytes, status: int) -> None:
    with start(**LIMITS, body_timeout_s=1.0) as running:
        for _ in range(3):
            with begin(running, sent, more=MOST - len(sent)) as client:
                assert read_one(client).startswith(b"HTTP/1.1 %d " % status)
        running.until(lambda: used(running) == 0)


def test_who_sends_too_much_gives_its_part_back(start: Any) -> None:
    with start(**LIMITS) as running:
        for _ in range(3):
            assert httpx.post(running.url + "/tokenize", content=iter([LARGEST, b" "])).status_code == 413
        running.until(lambda: used(running) == 0)


@pytest.mark.parametrize("more", [0, 1], ids=["while it is answered", "while it sends"])
def test_who_leaves_gives_its_part_back(start: Any, more: int) -> None:
    with start(**LIMITS, stalled_s=60.0, hung_s=60.0) as running:
        permits = hold_steps(running)
        with begin(running, LARGEST[: MOST - more], path="/v1/completions", more=more):
            running.until(lambda: used(running) == MOST - more - FREE_BYTES)
            running.until(lambda: more or running.llm.llm.loaded.engine.scheduler.has_work)
            assert used(running) > 0, "a body counts as long as its request"
        running.until(lambda: used(running) == 0)
        permits.release(1000)


def test_what_is_refused_is_not_counted() -> None:
    budget = BodyBudget(100)
    with budget.share() as first, budget.share() as second:
        first.add(FREE_BYTES)
        first.add(60)
        with pytest.raises(OverloadedError):
            second.add(FREE_BYTES + 41)
        assert budget.used_bytes == 60
        second.add(0)
    assert budget.used_bytes == 0

    def fails_alone() -> None:
        with budget.share() as share:
            share.add(FREE_BYTES + 100)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fails_alone()
    assert budget.used_bytes == 0
