"""What the completion routes share: admission, disconnects, the head of every reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request

from miaotui.answers.cache import AnswerCache
from miaotui.engine.async_embedder import AsyncEmbedder
from miaotui.engine.async_llm import AsyncLLM
from miaotui.engine.results import Completion, Delta
from miaotui.errors import InvalidRequestError, ModelNotFoundError
from miaotui.server.answered import Answered
from miaotui.server.asking import Ask, Asker
from miaotui.server.ledger import Ledger
from miaotui.server.reading import Reading
from miaotui.server.settings import ServerSettings
from miaotui.server.supervisor import Supervisor

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody reads the reply any more."""


class Service:
    """The engines, how the server is set up, and what it counts; one for all requests.

    llm: what writes text, and asker: how it is asked; embedder: what makes embeddings. There is one of them at least.
    small: what is asked before `llm`, in turns with it. model: names all that the answers of `llm` depend on beside the
    request.
    """

    def __init__(
        self,
        llm: AsyncLLM | None,
        settings: ServerSettings,
        ledger: Ledger,
        *,
        asker: Asker | None = None,
        embedder: AsyncEmbedder | None = None,
        model: str = "",
        small: AsyncLLM | None = None,
    ) -> None:
        self.settings = settings
        self.answered = Answered(model)
        self.ledger = ledger
        self.metrics = ledger.metrics
        self.closing = False
        self.created = int(time.time())
        self.embedder = embedder
        self.supervisors: list[Supervisor] = []
        self._llm = llm
        self._asker = asker
        self.metrics.describe(settings.model_name)
        if llm is not None:
            llm.watcher = ledger
            self.metrics.attach(llm)
        self._engines = [one for one in (llm, small) if one is not None]
        for engine in self._engines:
            _limit(engine, settings)
            beside = [other for other in self._engines if other is not engine]
            self.supervisors.append(Supervisor(engine, settings, self.metrics, beside=beside))
        if embedder is not None:
            self.metrics.attach_embedder(embedder)

    @property
    def llm(self) -> AsyncLLM:
        """What writes text. Raises ModelNotFoundError where only embeddings are made."""
        if self._llm is None:
            raise self._no_writer()
        return self._llm

    @property
    def asker(self) -> Asker:
        """How what writes text is asked. Raises ModelNotFoundError as `llm` does."""
        if self._asker is None:
            raise self._no_writer()
        return self._asker

    async def ask(self, ask: Ask) -> Reading:
        """An answer; where people can say what they think of it, it is remembered. Raises what `Asker.ask` does."""
        answer = await self.asker.ask(ask)
        return answer if self.cache is None else self.answered.watch(ask, answer)

    @property
    def cache(self) -> AnswerCache | None:
        """Kept answers, where any are kept."""
        return None if self._asker is None else self._asker.cache

    @property
    def has_llm(self) -> bool:
        """Whether anything here writes text."""
        return self._llm is not None

    @property
    def embed_model_name(self) -> str | None:
        """What clients call the model that makes embeddings."""
        return self.settings.embed_model_name if self.embedder is not None else None

    def _no_writer(self) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"{self.settings.model_name!r} makes embeddings (/v1/embeddings); no model that writes is served here."
        )

    def problem(self) -> str | None:
        """What is wrong with the engines; None while they are well."""
        if self.embedder is not None and not self.embedder.is_alive:
            return "the embedder has stopped"
        if not self.supervisors:
            return None
        served, *others = self.supervisors
        if any(one.is_hung for one in others):
            return "a step of the small model hangs"
        return served.problem()  # without the small model, the served one answers

    def end(self, error: Exception) -> None:
        """End every answer with that error; nothing is started anew."""
        for supervisor in self.supervisors:
            supervisor.retire()
        for engine in self._engines:
            engine.fail(error)

    def check_model(self, model: str | None) -> None:
        """Raise ModelNotFoundError for another model than this server's."""
        if model is not None and model not in ("", "default", self.settings.model_name):
            raise self.unknown(model)

    def unknown(self, model: str) -> ModelNotFoundError:
        """The error for a model that is not this server's, or not for what it was asked."""
        if model == self.embed_model_name:
            return ModelNotFoundError(
                f"{model!r} makes embeddings (/v1/embeddings); {self.settings.model_name!r} writes."
            )
        if model == self.settings.model_name:
            return ModelNotFoundError(f"{model!r} writes text; {self.embed_model_name!r} makes embeddings.")
        here = " and ".join(repr(name) for name in self.model_names)
        return ModelNotFoundError(f"the model {model[:100]!r} is not served here; it is {here}.")

    @property
    def model_names(self) -> list[str]:
        """What is served, by the names that clients use."""
        names = [self.settings.model_name] if self.has_llm else []
        return names if self.embed_model_name is None else [*names, self.embed_model_name]

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


def _limit(llm: AsyncLLM, settings: ServerSettings) -> None:
    """How many requests an engine may have waiting, of all tenants and of one."""
    together = llm.llm.loaded.engine.scheduler.limits.max_sequences
    llm.max_waiting = settings.max_waiting
    llm.encoding.max_waiting = together + settings.max_waiting
    if len(settings.keys) > 1:  # nobody takes all the room that others could wait in
        llm.max_open_per_tenant = together + max(settings.max_waiting * 3 // 4, 1)


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
    """Until the client has gone; what else may still come of the request is thrown away: its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def whole(answer: Reading) -> Completion:
    """A request's completion."""
    async with aclosing(answer):
        completion = await answer.whole()
        check_ending(answer)
        return completion


async def events_of(
    parts: AsyncIterator[Delta], say: Callable[[Delta], Iterable[bytes]], silence: bytes, keep_alive_s: float
) -> AsyncGenerator[bytes, None]:
    """What `say` makes of parts, and `silence` whenever that many seconds pass without one."""
    while True:
        try:
            async with asyncio.timeout(keep_alive_s):
                part = await anext(parts, None)
        except TimeoutError:
            yield silence
            continue
        if part is None:
            return
        for event in say(part):
            yield event
