"""One connection: uvicorn's, with an end to every kind of waiting for the client.

uvicorn knows a timeout for idle connections only. Here a request's head and its body have a deadline each, which
single bytes do not put off; a client that does not read is cut off; connections beyond a number are refused; and what
h11 finds wrong is answered in the API's form, with the status h11 proposes (431 for too long a head). While a request
is answered, its connection is read on: else nobody would learn that the client has gone.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from miaotui.server.ledger import Entry, Ledger
from miaotui.server.replies import names_of, plain_error
from miaotui.server.settings import ServerSettings

_TEXTS = {
    400: "this is not an HTTP request.",
    408: "the request took too long to arrive.",
    431: "the request's headers are too long.",
    503: "too many connections are open; try again in a moment.",
}
_REASONS = {408: "late", 431: "header", 503: "connections"}
"""As they are counted and logged; whatever else is wrong is malformed."""


class _Connection(h11.Connection):
    """Remembers the status that h11 proposes for what it could not read."""

    proposed_status = 400

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.proposed_status = error.error_status_hint
            raise


class Connection(H11Protocol):
    """A connection of a server with these settings."""

    settings: ServerSettings  # these two of the class that `connection_class` makes
    ledger: Ledger

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: _Connection = _Connection(h11.SERVER, self.settings.max_header_bytes)
        self._phase: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._send_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503)
        else:
            self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        super().data_received(data)
        self._read_on()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._cancel_deadlines()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """A reply has been written; the next request may have come already."""
        super().on_response_complete()
        self._set_deadline()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        super().pause_writing()
        if self._send_deadline is None:
            self._send_deadline = self.loop.call_later(self.settings.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._send_deadline is not None:
            self._send_deadline.cancel()
            self._send_deadline = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is no request."""
        self._refuse(self.conn.proposed_status)

    def _read_on(self) -> None:
        """Take in what comes behind a request that is being answered, to a limit; uvicorn stops at the first byte."""
        is_answered = self.flow.read_paused and self.conn.their_state is not h11.SEND_BODY
        if is_answered and len(self.conn.trailing_data[0]) <= self.settings.max_header_bytes:
            self.flow.resume_reading()

    def _set_deadline(self) -> None:
        """A deadline for what the client owes now; it stands until that has come."""
        phase = self._awaited()
        if phase == self._phase:
            return
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._phase = phase
        if phase is not None:
            seconds = self.settings.header_timeout_s if phase == "head" else self.settings.body_timeout_s
            self._deadline = self.loop.call_later(seconds, self._late)

    def _awaited(self) -> str | None:
        """Which part of a request has begun and not ended; a new connection owes its first head."""
        if self.transport.is_closing():
            return None
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        return "head" if self.conn.their_state is h11.IDLE and begun else None

    def _late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer with an error, if no reply has begun, and close."""
        self._cancel_deadlines()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            entry = self._entry()
            self.ledger.refused(entry, status, _REASONS.get(status, "malformed"))
            reply = plain_error(status, _TEXTS.get(status, _TEXTS[400]), "" if entry is None else entry.path)
            head = [
                *reply.raw_headers,
                (b"connection", b"close"),
                *names_of(None if entry is None else entry.request_id),
            ]
            head += [(b"retry-after", b"1")] if status == 503 else []
            data = h11.Data(data=bytes(reply.body))
            for event in (h11.Response(status_code=status, headers=head), data, h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whoever answers is told that the client has gone
            self.cycle.message_event.set()
        self.transport.close()

    def _entry(self) -> Entry | None:
        """The request that has begun, if any has."""
        is_begun = self.conn.our_state is h11.SEND_RESPONSE and self.cycle is not None
        return self.cycle.scope["state"].get("entry") if is_begun else None

    def _cancel_deadlines(self) -> None:
        for timer in (self._deadline, self._send_deadline):
            if timer is not None:
                timer.cancel()
        self._deadline = self._send_deadline = self._phase = None


def connection_class(settings: ServerSettings, ledger: Ledger) -> type[Connection]:
    """The class of a server's connections, for uvicorn to make them of."""
    return type("ServerConnection", (Connection,), {"settings": settings, "ledger": ledger})
