"""One request at a time: send it, keep the time of every read, and look into the bytes only when they are all there."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from miaotui.load.outcome import Fault, Outcome
from miaotui.load.prompts import Job
from miaotui.load.stream import error_text, read_stream

MAX_REPLY_BYTES = 64 << 20
LINGER_S = 1.0
"""How long the end of a reply may take behind its [DONE]."""
LEAST_WAIT_S = 0.1
KEEP_ALIVE_S = 2.0
"""Idle connections are let go before servers do so, or the next request would be lost (uvicorn's limit is 5 s)."""


def open_session(api_key: str | None) -> aiohttp.ClientSession:
    """A session without limits on connections, for one event loop; close it."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None),
        headers=headers,
    )


@dataclass(frozen=True, slots=True)
class Client:
    """Sends jobs to one address. timeout_s: most seconds from sending to the end, waits for retries included.

    retry: ask again after Retry-After where the server says 429. now: the clock of all times.
    """

    session: aiohttp.ClientSession
    url: str
    timeout_s: float = 600.0
    retry: bool = False
    now: Callable[[], float] = time.perf_counter

    async def ask(self, job: Job, due_s: float) -> Outcome:
        """Send, and read until the end; whatever goes wrong is in the outcome."""
        outcome = Outcome(job.shape, due_s, self.now())
        try:
            async with asyncio.timeout(self.timeout_s) as limit:
                await self._answer(job, outcome, limit)
        except TimeoutError:
            outcome.fault = Fault("timeout", f"no end within {self.timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            outcome.fault = Fault("connect", str(error))
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError) as error:
            outcome.fault = Fault("disconnected", f"the connection broke: {error}")
        except (aiohttp.ClientError, ValueError) as error:
            outcome.fault = Fault("invalid_http", f"{type(error).__name__}: {error}"[:300])
        outcome.end_s = outcome.end_s or self.now()
        return outcome

    async def _answer(self, job: Job, outcome: Outcome, limit: asyncio.Timeout) -> None:
        while (wait_s := await self._attempt(job, outcome, limit)) is not None:
            outcome.num_retries += 1
            await asyncio.sleep(wait_s)

    async def _attempt(self, job: Job, outcome: Outcome, limit: asyncio.Timeout) -> float | None:
        """Ask once. Returns seconds to wait where it should be tried again, else None with the outcome complete."""
        headers = {"Content-Type": "application/json"}
        async with self.session.post(self.url, data=job.body, headers=headers, allow_redirects=False) as reply:
            if reply.status == 429 and self.retry:
                return retry_after_s(reply.headers.get("Retry-After", ""))
            if reply.status != 200:
                outcome.fault = Fault(f"http_{reply.status}", await refusal_text(reply))
                return None
            reads = await self._read(reply, limit)
            if isinstance(reads, Fault):
                outcome.fault = reads
                return None
            outcome.end_s = reads[-1][0] if reads else self.now()
            read_stream(reads, outcome, reply.headers.get("Content-Type", ""))
            return None

    async def _read(self, reply: aiohttp.ClientResponse, limit: asyncio.Timeout) -> list[tuple[float, bytes]] | Fault:
        """All reads and their times. Behind [DONE] the reply's own end is awaited, so that the connection lives on."""
        reads: list[tuple[float, bytes]] = []
        num_bytes, tail, done = 0, b"", False
        try:
            async for data in reply.content.iter_any():
                if done:
                    continue
                reads.append((self.now(), data))
                num_bytes += len(data)
                tail = (tail + data)[-16:]
                if tail.rstrip().endswith(b"data: [DONE]"):
                    done = True
                    limit.reschedule(asyncio.get_running_loop().time() + LINGER_S)
                elif num_bytes > MAX_REPLY_BYTES:
                    return Fault("too_large", f"the reply is longer than {MAX_REPLY_BYTES >> 20} MiB")
        except asyncio.CancelledError:
            if not (done and limit.expired()):
                raise
        except (aiohttp.ClientError, OSError):
            if not done:
                raise
        return reads


async def refusal_text(reply: aiohttp.ClientResponse) -> str:
    """What a reply that is no success says, at most 300 characters."""
    data = await reply.content.read(4096)
    try:
        return error_text(msgspec.json.decode(data)["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return data.decode("utf-8", "replace").strip()[:300]


def retry_after_s(value: str) -> float:
    """Seconds that a Retry-After header asks for, given as seconds or as a date (RFC 9110, 10.2.3); without one, 1."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            seconds = 1.0
    return max(seconds, LEAST_WAIT_S) if math.isfinite(seconds) else 1.0
