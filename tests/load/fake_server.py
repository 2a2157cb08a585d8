"""A server of a few lines that says, byte by byte, what a test wants it to say."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

Writer = asyncio.StreamWriter
Script = Callable[["Asked", Writer], Awaitable[None]]


@dataclass
class Asked:
    """A request as it arrived; `connection` counts the sockets."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeServer:
    """Scripts by path; the last of a path's scripts answers all further requests."""

    scripts: dict[str, list[Script]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    num_connections: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.num_connections += 1
        number = self.num_connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *rest = head.strip().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
                method, path, _ = first.split(" ")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(method, path, headers, body, number)
                self.asked.append(asked)
                scripts = self.scripts.get(path, [refuse(404, "no such path")])
                await (scripts.pop(0) if len(scripts) > 1 else scripts[0])(asked, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def reply(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Script:
    async def script(asked: Asked, writer: Writer) -> None:
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        writer.write(head.encode() + body)

    return script


def as_json(value: Any, status: int = 200) -> Script:
    return reply(status, json.dumps(value).encode())


def refuse(status: int, message: str, **headers: str) -> Script:
    return reply(status, json.dumps({"error": {"message": message}}).encode(), **headers)


def raw(data: bytes, *, close: bool = False) -> Script:
    async def script(asked: Asked, writer: Writer) -> None:
        writer.write(data)
        if close:
            writer.close()

    return script


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str, **more: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more})


def usage(prompt: int, output: int, **more: Any) -> bytes:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}, **more})


DONE = b"data: [DONE]\n\n"


def stream(*events: bytes, end: bool = True) -> Script:
    body = b"".join(map(chunked, events)) + (chunked(b"")[:1] + b"\r\n\r\n" if end else b"")
    return raw(HEAD + body)


GOOD = stream(piece(""), piece("a"), piece("b"), piece("c"), usage(7, 3), DONE)
MODELS = as_json({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]})


def answering(*scripts: Script, **paths: Script) -> FakeServer:
    """A server with one model whose chat gives these answers; a token is a word, and there are 3 more."""
    chat = list(scripts) or [GOOD]
    tokens = {path.replace("_", "/"): [script] for path, script in paths.items()}
    known = {"/v1/models": [MODELS], "/tokenize": [tokenize], "/v1/chat/completions": chat}
    return FakeServer({**known, **tokens})


async def tokenize(asked: Asked, writer: Writer) -> None:
    text = asked.json.get("prompt") or asked.json["messages"][0]["content"]
    await as_json({"count": len(text.split()) + 3})(asked, writer)


@asynccontextmanager
async def serving(server: FakeServer) -> AsyncIterator[FakeServer]:
    """On the running loop."""
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    tasks = asyncio.all_tasks()
    try:
        yield server
    finally:
        listener.close()
        left = asyncio.all_tasks() - tasks
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def serving_aside(server: FakeServer) -> Iterator[FakeServer]:
    """In a thread, for tests of whole commands."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with serving(server):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        assert ready.wait(30)
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
