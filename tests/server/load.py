"""Clients that load a server, leave it, or spy on each other; for the tests here and, for longer, in tests/soak."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from miaotui import SamplingParams
from miaotui.engine.async_llm import AsyncLLM

WORDS = ("the", "cat", "and", "dog", "in", "a", "house", "of", "stone", "said", "that", "it", "was", "late")
REPLY_S = 120
LEAST_ROUNDS = 4
"""Each place is to be had so often before anything is said of a load, however slow the machine."""
GONE = (ConnectionError, asyncio.IncompleteReadError, BrokenPipeError)


@dataclass
class Reply:
    """What came back: status, headers, the whole body, and how long it took."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Tally:
    """What became of many requests; times are monotonic seconds.

    accepted: when each that was answered was sent, and when its answer was there. last_sent_s: when the load ended.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    accepted: list[tuple[float, float]] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    last_sent_s: float = 0.0

    @property
    def num_cases(self) -> int:
        return sum(self.statuses.values())

    @property
    def accepted_s(self) -> list[float]:
        return [end_s - begin_s for begin_s, end_s in self.accepted]

    def rate(self, num_places: int) -> float:
        """Answers a second from when so many were given, so that every place was taken, until the load ended.

        One that was under way at either moment counts in part: else the ends of a few seconds would be some percent.
        """
        first_s = sorted(end_s for _, end_s in self.accepted)[num_places - 1]
        parts = (
            max(min(end_s, self.last_sent_s) - max(begin_s, first_s), 0.0) / (end_s - begin_s)
            for begin_s, end_s in self.accepted
        )
        return sum(parts) / (self.last_sent_s - first_s)

    def add(self, other: Tally) -> None:
        """Count another load's requests, too."""
        self.statuses += other.statuses
        self.problems += other.problems
        self.accepted += other.accepted
        self.refused_s += other.refused_s

    def note(self, reply: Reply) -> None:
        """Count a reply that has just come."""
        self.statuses[reply.status] += 1
        if reply.status == 200:
            now_s = time.monotonic()
            self.accepted.append((now_s - reply.seconds, now_s))
            reasons = [choice["finish_reason"] for choice in reply.json["choices"]]
            if reasons != ["length"]:
                self.problems.append(f"an accepted request ended with {reasons}")
        elif reply.status == 429:
            self.refused_s.append(reply.seconds)
            retry = reply.headers.get("retry-after", "")
            if not retry.isdigit() or not 1 <= int(retry) <= 60:
                self.problems.append(f"429 with retry-after {retry!r}")
        else:
            self.problems.append(f"{reply.status}: {reply.body[:200]!r}")


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port, limit=1 << 22)


def request_of(path: str, body: dict[str, Any] | None, key: str = "") -> bytes:
    """A POST of the body; a GET where there is none."""
    raw = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    more = f"authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}content-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


async def ask(url: str, body: dict[str, Any] | None, *, path: str = "/v1/completions", key: str = "") -> Reply:
    """One request on a connection of its own, read to its end."""
    begin_s = time.monotonic()
    reader, writer = await connect(url)
    try:
        writer.write(request_of(path, body, key))
        head, _, rest = (await asyncio.wait_for(reader.read(-1), REPLY_S)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        with suppress(*GONE):
            await writer.wait_closed()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(int(first.split()[1]), headers, rest, time.monotonic() - begin_s)


def some_text(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choices(WORDS, k=num_words))


async def leave(url: str, rng: random.Random, *, most_words: int, most_tokens: int, patience_s: float) -> None:
    """Ask for something and go away at some moment: while queued, read or answered, politely or not."""
    body = {
        "prompt": some_text(rng, rng.randint(1, most_words)),
        "max_tokens": most_tokens,
        "n": rng.choice((1, 1, 2)),
        "stream": rng.random() < 0.5,
        "ignore_eos": True,
        "seed": rng.getrandbits(30),
    }
    reader, writer = await connect(url)
    with suppress(*GONE):
        writer.write(request_of("/v1/completions", body))
        if rng.random() < 0.4:
            first_event = body["stream"] and rng.random() < 0.5
            some_of_it = reader.readuntil(b"data:") if first_event else reader.read(rng.randint(1, 4000))
            with suppress(TimeoutError):
                await asyncio.wait_for(some_of_it, REPLY_S)
        else:
            await asyncio.sleep(rng.random() * patience_s)
    if rng.random() < 0.5:  # as a process that is killed
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    with suppress(*GONE):
        await writer.wait_closed()


async def at_once(jobs: Iterable[Callable[[], Awaitable[None]]], num_workers: int) -> None:
    """Do all of these, so many at a time."""
    queue = iter(jobs)

    async def work() -> None:
        for job in queue:
            await job()

    await asyncio.gather(*(work() for _ in range(num_workers)))


async def closed_loop(url: str, body: dict[str, Any], num_clients: int, seconds: float) -> Tally:
    """So many clients that ask one after the other, for some seconds and until each has had some answers.

    To be called where there are places for all of them.
    """
    tally, end_s = Tally(), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end_s or len(tally.accepted) < LEAST_ROUNDS * num_clients:
            tally.last_sent_s = time.monotonic()
            tally.note(await ask(url, body))

    await asyncio.gather(*(client() for _ in range(num_clients)))
    assert set(tally.statuses) == {200}, (tally.statuses, tally.problems[:3])
    return tally


async def open_loop(url: str, body: dict[str, Any], rate: float, seconds: float) -> Tally:
    """So many requests per second, whether or not earlier ones have been answered."""
    tally, tasks = Tally(), []

    async def one() -> None:
        tally.note(await ask(url, body))

    begin_s = time.monotonic()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(begin_s + number / rate - time.monotonic(), 0))
        tasks.append(asyncio.create_task(one()))
    tally.last_sent_s = time.monotonic()
    await asyncio.gather(*tasks)
    return tally


async def spy(llm: AsyncLLM, rng: random.Random, tenants: Sequence[str], num_tokens: int) -> tuple[bool, bool]:
    """One tenant asks something, another the same, the first again: was it found the second, the third time?"""
    owner, other = rng.sample(list(tenants), 2)
    prompt = [rng.randrange(3, 200) for _ in range(num_tokens)]
    once = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    await llm.generate(prompt, once, tenant=owner)
    stolen = await llm.generate(prompt, once, tenant=other)
    own = await llm.generate(prompt, once, tenant=owner)
    return stolen.receipt.cached_tokens > 0, own.receipt.cached_tokens > 0
