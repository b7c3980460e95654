"""Runs the API: uvicorn without its clock, so that an idle API process sleeps. Tunes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import sdnotify
import uvicorn

from sparktune import garbage
from sparktune.api.application import create_application
from sparktune.api.connection import Connection
from sparktune.api.sockets import BACKLOG, bind_sockets, take_passed_sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("sparktune.api")

KEEP_ALIVE_S = 15
LARGEST_HEAD_BYTES = 16384
GRACE_S = 2
_SILENT = logging.CRITICAL + 1


def serve(*, run_dir: Path, state_dir: Path, listen: tuple[str, int] | None) -> int:
    """Answer until SIGTERM or SIGINT, then return 0.

    `listen` is host and port to bind, or None for the sockets systemd passed. `READY=1` goes out once
    requests are accepted.

    Raises:
        SparktuneError: there is nothing to listen on, or the address cannot be had.
    """
    application = create_application(run_dir=run_dir, state_dir=state_dir)
    sockets = take_passed_sockets() if listen is None else bind_sockets(*listen)
    config = uvicorn.Config(
        application,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=_SILENT,  # it would log every malformed request of every stranger
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # refreshed by the clock that is gone; the guard dates answers
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
    )
    garbage.settle()
    Server(config).run(sockets)
    return 0


class Server(uvicorn.Server):
    """uvicorn's server, waiting for an event where uvicorn looks ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept, then tell systemd."""
        asyncio.get_running_loop().set_exception_handler(_log_stray)
        await super().startup(sockets)
        for each in sockets or ():
            log.info("listening on %s", each.getsockname())
        _notify("READY=1")

    async def main_loop(self) -> None:
        """Sleep until the end. The date, the only other thing of uvicorn's clock we need, is the guard's."""
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell systemd, then finish what is being answered."""
        _notify("STOPPING=1")
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT through the loop: a handler of `signal` alone would not wake it.

        uvicorn raises a captured signal again at the end, which is no clean exit.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """Stop serving; asked twice, without waiting for anybody."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ended.set()


def _notify(state: str) -> None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    notifier = sdnotify.SystemdNotifier()
    notifier.notify(state)
    if notifier.socket is not None:  # None when the socket in the environment is gone
        notifier.socket.close()


def _log_stray(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited: one line instead of a traceback."""
    error = context.get("exception")
    log.error("defect: %s: %r", context.get("message"), error)
