"""The outermost layer, pure ASGI: what holds for every request whatever its path.

It refuses unknown hosts (DNS rebinding) and every method but GET and HEAD, answers HEAD like GET without the
body, settles If-None-Match, and dates every answer. It must not know any path.
"""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from sparktune.api.answers import ALLOWED, failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KNOWN_HOST = re.compile(rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
_EVERYWHERE = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_OK, _NOT_MODIFIED, _METHOD_NOT_ALLOWED, _MISDIRECTED = 200, 304, 405, 421
_OF_A_BODY = (b"content-length", b"content-type")


class Guard:
    """Wraps an ASGI application.

    Attributes:
        application: what is wrapped; sees only GET, and only for known hosts.
    """

    def __init__(self, application: ASGIApp) -> None:
        self.application = application
        self._second = 0
        self._date = (b"date", b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on what is no HTTP request."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        method, headers = scope["method"], scope["headers"]
        sender = _Sender(send, (self._now(), *_EVERYWHERE), headers, without_body=method == "HEAD")
        if not _host_is_known(headers):
            await _refuse_host(headers)(scope, receive, sender.send)
        elif method not in ALLOWED:
            await _refuse_method(method)(scope, receive, sender.send)
        else:
            seen = scope if method == "GET" else {**scope, "method": "GET"}
            await self.application(seen, receive, sender.send)

    def _now(self) -> tuple[bytes, bytes]:
        second = int(time.time())
        if second != self._second:  # made when asked for: a timer would wake an idle process every second
            self._second = second
            self._date = (b"date", formatdate(second, usegmt=True).encode())
        return self._date


class _Sender:
    """Sends one answer, with the headers of every answer and without the body where none belongs."""

    def __init__(
        self,
        send: Send,
        extra: Iterable[tuple[bytes, bytes]],
        request_headers: Sequence[tuple[bytes, bytes]],
        *,
        without_body: bool,
    ) -> None:
        self._send = send
        self._extra = extra
        self._request_headers = request_headers
        self._without_body = without_body

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], *self._extra]
            if message["status"] == _OK and self._is_unchanged(headers):
                headers = [header for header in headers if header[0] not in _OF_A_BODY]
                message = {**message, "status": _NOT_MODIFIED}
                self._without_body = True
            message = {**message, "headers": headers}
        elif self._without_body and message.get("body"):
            message = {**message, "body": b""}
        await self._send(message)

    def _is_unchanged(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        asked = [value for name, value in self._request_headers if name == b"if-none-match"]
        if not asked:
            return False
        tag = next((value for name, value in headers if name == b"etag"), None)
        known = {part.strip().removeprefix(b"W/") for part in b",".join(asked).split(b",")}
        return tag is not None and (tag in known or b"*" in known)


def _hosts(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for name, value in headers if name == b"host"]


def _host_is_known(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    hosts = _hosts(headers)
    return len(hosts) == 1 and _KNOWN_HOST.fullmatch(hosts[0]) is not None


def _refuse_host(headers: Iterable[tuple[bytes, bytes]]) -> Response:
    given = ", ".join(host.decode("latin-1")[:80] for host in _hosts(headers)) or "none"
    return failure(
        _MISDIRECTED,
        f"this API answers for localhost, 127.0.0.1 and [::1] only; the Host header says: {given}",
        hint="ask http://localhost:9300/; from elsewhere: ssh -L 9300:localhost:9300 HOST",
    )


def _refuse_method(method: str) -> Response:
    return failure(
        _METHOD_NOT_ALLOWED,
        f"{method[:20]} is not possible here: the API only reads",
        hint="changes go through the command line, as root: sparktune --help",
        headers={"Allow": ", ".join(ALLOWED)},
    )
