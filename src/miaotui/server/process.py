"""The server as a process: how uvicorn is set up, and what happens when it is told to end."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import uvicorn

from miaotui.errors import EngineStoppedError
from miaotui.server.connection import connection_class
from miaotui.server.guard import Guard
from miaotui.server.settings import ServerSettings

LAST_WORDS_S = 1.0
"""So long before the end, answers still under way are ended with an error, for it to reach their readers."""


class Server(uvicorn.Server):
    """Stops being ready when the signal comes, and never cuts a stream off without a word."""

    def __init__(self, app: Guard, settings: ServerSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                port=0,  # where no sockets are given
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=connection_class(settings, app.ledger),
                timeout_keep_alive=settings.idle_timeout_s,  # type: ignore[arg-type]  # a delay of the event loop
                timeout_graceful_shutdown=settings.shutdown_timeout_s,  # type: ignore[arg-type]  # likewise
            )
        )
        self._guard = app
        self._shutdown_s = settings.shutdown_timeout_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal: /ready says so at once."""
        self._guard.close()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let what runs end, then everything else."""
        self._guard.close()
        timer = asyncio.get_running_loop().call_later(max(self._shutdown_s - LAST_WORDS_S, 0), self._end_answers)
        await super().shutdown(sockets)
        timer.cancel()

    def _end_answers(self) -> None:
        if self._guard.service is not None:
            self._guard.service.end(EngineStoppedError("the server ends."))
