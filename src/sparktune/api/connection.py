"""One HTTP connection: h11 alone, patient with nobody. No client may hold a connection without using it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sparktune.api.answers import Failure, render

if TYPE_CHECKING:
    import asyncio

PATIENCE_S = 20
"""A connection that got no whole answer for so long is dropped: slow, silent or not reading."""
MOST_CONNECTIONS = 64
"""More than that, and the one that has waited longest goes: who is quick is served even among hundreds."""


class Connection(H11Protocol):
    """uvicorn's h11 connection with limits of its own: uvicorn has none before the first answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn does
        """Start the clock, and make room when there are too many."""
        super().connection_made(transport)
        self.answered_s = self.loop.time()
        self._clock = self.loop.call_later(PATIENCE_S, self._look_at_clock)
        if len(self.connections) > MOST_CONNECTIONS:
            others = [cast("Connection", other) for other in self.connections if other is not self]
            min(others, key=lambda other: other.answered_s).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # garbage after an answer that is already on its way
            self.drop()

    def on_response_complete(self) -> None:
        """Set the clock back: this client makes progress."""
        self.answered_s = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What was received is no HTTP: say so in JSON, as every failure, and close."""
        body = render(Failure(error=msg, hint="curl -i http://localhost:9300/ lists the paths"))
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """The server ends."""
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # it is being closed for another reason already
            self.drop()

    def drop(self) -> None:
        """End the connection now, whatever is still unsent."""
        self.connections.discard(self)  # at once: the next newcomer must not count it, nor choose it again
        self.transport.abort()

    def _look_at_clock(self) -> None:
        left_s = self.answered_s + PATIENCE_S - self.loop.time()
        if left_s <= 0:
            self.drop()
        else:
            self._clock = self.loop.call_later(left_s, self._look_at_clock)
