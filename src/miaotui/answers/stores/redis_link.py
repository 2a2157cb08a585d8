"""Connections to a Redis server or cluster: shared, bounded in number and time, and made anew after it was away."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from miaotui.answers.stores.outage import Outage
from miaotui.errors import StoreError

MAX_CONNECTIONS = 16

Result = TypeVar("Result")


class RedisLink:
    """Runs actions with a client. Used from one event loop."""

    def __init__(self, url: str, name: str, timeout_s: float, outage: Outage) -> None:
        self._url = url
        self._name = name
        self._timeout_s = timeout_s
        self._outage = outage
        self._client: Any = None
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self.is_cluster = "+cluster" in url.partition(":")[0]

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        if self._client is None:
            try:
                self._client = self._new_client()
            except (ValueError, RedisError) as error:
                raise StoreError(f"the answer store {self._name} cannot be used: {error}") from error

    def _new_client(self) -> Any:
        url = self._url.replace("+cluster", "", 1) if self.is_cluster else self._url.replace("redis+unix:", "unix:", 1)
        # A lost connection is noticed when it is used; what was asked is asked once more over a new one.
        retry: Any = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        limits: dict[str, Any] = {
            "socket_timeout": self._timeout_s,
            "socket_connect_timeout": self._timeout_s,
            "retry": retry,
        }
        client = RedisCluster if self.is_cluster else Redis
        return client.from_url(url, **limits)

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await client.aclose()
            except (TimeoutError, OSError, RedisError):
                pass  # it is gone in any case

    async def run(self, action: Callable[[Any], Awaitable[Result]]) -> Result:
        """Have something done with the client. Raises StoreError."""
        if self._client is None:
            raise StoreError(f"the answer store {self._name} is not open; await its open() first")
        self._outage.check()
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                result = await action(self._client)
        except (TimeoutError, RedisTimeoutError) as error:
            raise self._away(f"did not answer within {self._timeout_s:g} s", error) from error
        except (OSError, RedisConnectionError) as error:
            raise self._away("cannot be reached", error) from error
        except RedisError as error:
            raise StoreError(f"the answer store {self._name} failed ({error})") from error
        self._outage.end()
        return result

    async def script(self, text: str, key: bytes, values: Sequence[Any]) -> Any:
        """Run a script over a key; it is sent only to servers that do not have it yet."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def call(client: Any) -> Any:
            try:
                return await client.evalsha(sha, 1, key, *values)
            except NoScriptError:
                return await client.eval(text, 1, key, *values)

        return await self.run(call)

    def _away(self, what: str, error: Exception) -> StoreError:
        why = f" ({error})" if str(error) else ""
        failure = StoreError(f"the answer store {self._name} {what}{why}; see whether the server is up")
        self._outage.begin(failure)
        return failure
