"""CPU time that HTTP clients spend per streamed event: the choice of docs/decisions/0013.

usage: load_clients.py [--streams N] [--events N] [--interval-ms N]
A server of little more than a socket sends every stream an event per interval, as a language-model server sends a
token; each client reads the streams together, keeps the time of each read and the bytes, and nothing else. aiohttp and
httpx2 must be installed. "socket" is a bare asyncio protocol: what any client pays at least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from common import with_range

EVENT = b"data: " + json.dumps({
    "id": "chatcmpl-0123456789abcdef0123456789abcdef", "object": "chat.completion.chunk", "created": 1700000000,
    "model": "smollm2:135m", "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None,
    "finish_reason": None}], "usage": None}).encode() + b"\n\n"  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = f"{len(EVENT):x}\r\n".encode() + EVENT + b"\r\n"


async def serve(num_events: int, interval_s: float) -> None:
    """Prints the port, then answers until it is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD)
                for _ in range(num_events):
                    writer.write(CHUNK)
                    await asyncio.sleep(interval_s)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def with_aiohttp(port: int, num_streams: int) -> int:
    import aiohttp

    async def one(session: aiohttp.ClientSession) -> int:
        async with session.get(f"http://127.0.0.1:{port}/") as reply:
            reads = [(time.perf_counter(), data) async for data in reply.content.iter_any()]
        return sum(len(data) for _, data in reads)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        return sum(await asyncio.gather(*(one(session) for _ in range(num_streams))))


async def with_httpx(port: int, num_streams: int) -> int:
    import httpx2

    async def one(client: httpx2.AsyncClient) -> int:
        async with client.stream("GET", f"http://127.0.0.1:{port}/") as reply:
            reads = [(time.perf_counter(), data) async for data in reply.aiter_raw()]
        return sum(len(data) for _, data in reads)

    async with httpx2.AsyncClient(timeout=600, limits=httpx2.Limits(max_connections=None)) as client:
        return sum(await asyncio.gather(*(one(client) for _ in range(num_streams))))


class Socket(asyncio.Protocol):
    """Reads until the last chunk."""

    def __init__(self) -> None:
        self.reads: list[tuple[float, bytes]] = []
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.reads.append((time.perf_counter(), data))
        if data.endswith(b"0\r\n\r\n"):
            self.ended.set_result(None)


async def with_socket(port: int, num_streams: int) -> int:
    async def one() -> int:
        transport, protocol = await asyncio.get_running_loop().create_connection(Socket, "127.0.0.1", port)
        transport.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await protocol.ended
        transport.close()
        body = b"".join(data for _, data in protocol.reads)[len(HEAD) :]
        return body.count(b"data: ") * len(EVENT)

    return sum(await asyncio.gather(*(one() for _ in range(num_streams))))


CLIENTS: dict[str, Callable[[int, int], Awaitable[int]]] = {
    "socket": with_socket, "aiohttp": with_aiohttp, "httpx2": with_httpx,
}  # fmt: skip


def microseconds(name: str, port: int, num_streams: int, num_events: int) -> float:
    """CPU time per event of one run, of all streams together."""

    async def timed() -> float:
        start = time.process_time()
        num_bytes = await CLIENTS[name](port, num_streams)
        spent = time.process_time() - start
        assert num_bytes == num_streams * num_events * len(EVENT), num_bytes
        return spent

    asyncio.run(CLIENTS[name](port, 1))  # imports and first connections
    return asyncio.run(timed()) / (num_streams * num_events) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--interval-ms", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments.events, arguments.interval_ms / 1e3))
    counts = ["--events", str(arguments.events), "--interval-ms", str(arguments.interval_ms)]
    server = subprocess.Popen([sys.executable, __file__, "--serve", *counts], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        spent: dict[str, list[float]] = {name: [] for name in CLIENTS}
        for _ in range(arguments.rounds):
            for name in CLIENTS:
                spent[name].append(microseconds(name, port, arguments.streams, arguments.events))
        for name, values in spent.items():
            print(f"{name:8} {with_range(values, 1)} µs of CPU an event")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
