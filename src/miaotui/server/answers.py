"""What the completion routes share: admission, disconnects, the head of every reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request

from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.results import Completion, Delta
from miaotui.errors import InvalidRequestError, ModelNotFoundError
from miaotui.server.asking import Asker, Reading
from miaotui.server.ledger import Ledger
from miaotui.server.settings import ServerSettings
from miaotui.server.supervisor import Supervisor

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody reads the reply any more."""


class Service:
    """The engine, how the server is set up, and what it counts; one for all requests."""

    def __init__(self, llm: AsyncLLM, settings: ServerSettings, ledger: Ledger, asker: Asker) -> None:
        self.llm = llm
        self.asker = asker
        self.settings = settings
        self.metrics = ledger.metrics
        llm.watcher, llm.max_waiting = ledger, settings.max_waiting
        if len(settings.keys) > 1:  # nobody takes all the room that others could wait in
            together = llm.llm.loaded.engine.scheduler.limits.max_sequences
            llm.max_open_per_tenant = together + max(settings.max_waiting * 3 // 4, 1)
        self.metrics.attach(llm, settings.model_name)
        self.supervisor = Supervisor(llm, settings, self.metrics)
        self.closing = False
        self.created = int(time.time())

    def check_model(self, model: str | None) -> None:
        """Raise ModelNotFoundError for another model than this server's."""
        if model is not None and model not in ("", "default", self.settings.model_name):
            raise self.unknown(model)

    def unknown(self, model: str) -> ModelNotFoundError:
        """The error for a model that is not this server's."""
        return ModelNotFoundError(f"the model {model[:100]!r} is not served here; it is {self.settings.model_name!r}.")

    def priority(self, wanted: int | None, tenant: str) -> int:
        """The priority of a tenant's request; where there are several, nobody may push ahead of the others.

        Raises InvalidRequestError.
        """
        if wanted is not None and wanted < 0 and tenant:
            raise InvalidRequestError("priority must be 0 to 1000 on a server with API keys.")
        return wanted or 0

    def head(self, kind: str, request: Request) -> dict[str, Any]:
        """The fields that all parts of a reply begin with."""
        prefix = "chatcmpl" if kind.startswith("chat") else "cmpl"
        name = f"{prefix}-{request.state.request_id}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.settings.model_name}


def check_ending(answer: Reading) -> None:
    """Raise InvalidRequestError where a completion that has ended could not keep to its grammar."""
    for one in answer.ended:
        if one.finish_reason == "error":
            raise InvalidRequestError(str(one.stop_reason))


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Do the work, or raise ClientGoneError as soon as the client goes away; the work is cancelled then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _disconnect(request: Request) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)


async def whole(answer: Reading) -> Completion:
    """A request's completion."""
    async with aclosing(answer):
        completion = await answer.whole()
        check_ending(answer)
        return completion


async def events_of(
    answer: Reading, say: Callable[[Delta], Iterable[bytes]], silence: bytes, keep_alive_s: float
) -> AsyncGenerator[bytes, None]:
    """What `say` makes of an answer's parts, and `silence` whenever that many seconds pass without one."""
    while True:
        try:
            async with asyncio.timeout(keep_alive_s):
                part = await anext(answer, None)
        except TimeoutError:
            yield silence
            continue
        if part is None:
            return
        for event in say(part):
            yield event
