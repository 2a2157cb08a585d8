"""Who leaves is noticed at once, by the connection's word alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from miaotui.server.answers import ClientGoneError, while_connected

REST = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


class Work:
    """Something that ends when it is told to, and remembers how it has ended."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.became = "is going on"

    async def __call__(self) -> str:
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.became = "was cancelled"
            raise
        self.became = "was done"
        return "the answer"


Story = Callable[[Any, Work, Any, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Takes the queue of what the connection says, the work, who waits for it, and how to give all others a turn."""


def tell(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell what happens to a request whose body has been read, on a loop that nobody may set an alarm on."""

    async def main() -> None:
        def alarm(*_: object, **__: object) -> None:
            raise AssertionError("it asks again and again whether the client is there")

        async def everybody_had_a_turn() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        work, request = Work(), Request({"type": "http"}, messages.get)
        with monkeypatch.context() as patch:
            for name in ("call_later", "call_at"):
                patch.setattr(asyncio.get_running_loop(), name, alarm)
            waiting = asyncio.create_task(while_connected(request, work()))
            await everybody_had_a_turn()
            await story(messages, work, waiting, everybody_had_a_turn)
        assert len(asyncio.all_tasks()) == 1, "nobody is left waiting for the client to go"

    asyncio.run(main())


def test_who_leaves_is_noticed_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(messages: Any, work: Work, waiting: Any, turns: Any) -> None:
        messages.put_nowait(REST)
        await turns()
        assert work.became == "is going on", "the end of a body is not the client's end"
        messages.put_nowait(GONE)
        await turns()
        assert work.became == "was cancelled"
        with pytest.raises(ClientGoneError):
            await waiting

    tell(story, monkeypatch)


def test_who_stays_gets_the_answer_and_nobody_goes_on_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(messages: Any, work: Work, waiting: Any, turns: Any) -> None:
        work.end.set()
        await turns()
        assert await waiting == "the answer"
        messages.put_nowait(GONE)
        await turns()
        assert messages.qsize() == 1, "what comes later is for whoever sends the reply"

    tell(story, monkeypatch)


def test_what_is_done_when_the_client_leaves_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(messages: Any, work: Work, waiting: Any, turns: Any) -> None:
        work.end.set()
        messages.put_nowait(GONE)
        await turns()
        assert await waiting == "the answer"

    tell(story, monkeypatch)
