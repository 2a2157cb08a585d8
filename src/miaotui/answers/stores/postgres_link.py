"""Connections to a PostgreSQL server: shared, bounded in number and time, and made anew after it was away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg

from miaotui.answers.stores.outage import Outage
from miaotui.errors import StoreError

MAX_CONNECTIONS = 8
MAX_TRIES = 4

Result = TypeVar("Result")
Action = Callable[[Any], Awaitable[Result]]

# InternalClientError is what asyncpg says of a connection that was cut in the middle of several messages.
_LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError,
         asyncpg.CannotConnectNowError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)  # fmt: skip
_IN_EACH_OTHERS_WAY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class PostgresLink:
    """Runs actions with a connection; all of them may be run twice. Used from one event loop.

    num_collisions: how often a transaction had to be repeated because of another one.
    """

    def __init__(self, url: str, name: str, timeout_s: float, outage: Outage) -> None:
        self._url = url
        self._name = name
        self._timeout_s = timeout_s
        self._outage = outage
        self._pool: Any = None
        self.num_collisions = 0

    @property
    def is_open(self) -> bool:
        """Whether there are connections, or can be."""
        return self._pool is not None

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        if self._pool is None:
            try:
                self._pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=MAX_CONNECTIONS, timeout=self._timeout_s, reset=_keep,
                    server_settings={"application_name": "miaotui"},
                )  # fmt: skip
            except (OSError, ValueError, asyncpg.InterfaceError) as error:
                raise StoreError(f"the answer store {self._name} cannot be used: {error}") from error

    async def close(self) -> None:
        """Let go of the connections, in good manners if there is time."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await pool.close()
            except (TimeoutError, *_LOST):
                pool.terminate()

    async def run(self, action: Action[Result], seconds: float | None = None) -> Result:
        """Have something done, once more if the connection was lost. Raises StoreError."""
        if self._pool is None:
            raise StoreError(f"the answer store {self._name} is not open; await its open() first")
        self._outage.check()
        limit_s = self._timeout_s if seconds is None else seconds
        try:
            result = await self._try(action, asyncio.get_running_loop().time() + limit_s)
        except StoreError:
            raise
        except TimeoutError as error:
            raise self._away(f"did not answer within {limit_s:g} s", error) from error
        except asyncpg.DataError as error:
            raise StoreError(f"the answer store {self._name} cannot keep such a value ({error})") from error
        except _LOST as error:
            raise self._away("cannot be reached", error) from error
        except asyncpg.PostgresError as error:
            raise StoreError(f"the answer store {self._name} failed ({error})") from error
        self._outage.end()
        return result

    def _away(self, what: str, error: Exception) -> StoreError:
        why = f" ({error})" if str(error) else ""
        failure = StoreError(f"the answer store {self._name} {what}{why}; see whether the server is up")
        self._outage.begin(failure)
        return failure

    async def _try(self, action: Action[Result], end_s: float) -> Result:
        """Several times where others were in the way; once more where the server may have been started anew."""
        was_lost = False
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                return await self._once(action, end_s)
            except (StoreError, TimeoutError, asyncpg.DataError):
                raise
            except _LOST:
                if was_lost:
                    raise
                was_lost = True
                await self._pool.expire_connections()  # the others have gone the same way
            except _IN_EACH_OTHERS_WAY:
                self.num_collisions += 1
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _once(self, action: Action[Result], end_s: float) -> Result:
        loop, pool = asyncio.get_running_loop(), self._pool
        async with asyncio.timeout_at(end_s):
            connection = await pool.acquire()
        # Cutting the connection ends whatever waits for it; a cancelled query would first ask the server's leave.
        timer = loop.call_at(end_s, connection.terminate)
        try:
            return await action(connection)
        except asyncio.CancelledError:
            connection.terminate()
            raise
        except _LOST as error:
            connection.terminate()
            if loop.time() >= end_s:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            with suppress(*_LOST):
                await pool.release(connection)


async def _keep(connection: Any) -> None:
    """Nothing was set that the next user of a connection could notice; a round trip less."""
