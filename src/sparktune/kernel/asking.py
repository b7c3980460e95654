"""Starts `model_child.py` for one engine and takes its answer through a pipe, without ever waiting for it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("model_child.py")
MOST_ANSWER_BYTES = 1 << 20
MOST_REQUEST_BYTES = 49152  # fits into an empty pipe (64 KiB, pipe(7)): writing it never blocks
PATIENCE_S = 15.0
"""A child that has not answered by then is killed; its own alarm comes first."""


class Asking:
    """One question to one child."""

    def __init__(self, request: dict[str, Any]) -> None:
        """Start the child. Raises OSError (no process to be had) or ValueError (too long a request)."""
        data = json.dumps(request).encode()
        if len(data) > MOST_REQUEST_BYTES:
            raise ValueError("the request is too long")
        question, asks = os.pipe2(os.O_CLOEXEC)
        answers, answer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(answer, True)
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-IS", "-B", str(PROGRAM)],
                {"LC_ALL": "C.UTF-8"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, question, 0),
                    (os.POSIX_SPAWN_DUP2, answer, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
            )
            os.write(asks, data)
        except OSError:
            os.close(answers)
            raise
        finally:
            for descriptor in (question, asks, answer):
                os.close(descriptor)
        self._answers = self.registered = answers
        self._data = bytearray()
        self.until_s = time.monotonic() + PATIENCE_S

    def fileno(self) -> int:
        """Readable when there is something of the answer."""
        return self._answers

    def read(self) -> dict[str, Any] | None:
        """The answer once it is whole; None: there is more to come. `error` in it says why there is none."""
        try:
            while piece := os.read(self._answers, 65536):
                self._data += piece
                if len(self._data) > MOST_ANSWER_BYTES:
                    return self._failed("the answer is too long")
        except BlockingIOError:
            return None
        self.close()
        try:
            found = json.loads(bytes(self._data))
        except (ValueError, RecursionError):  # it was ended: by its alarm, its limits, or the kernel
            return {"error": "the child ended without an answer"}
        return found if isinstance(found, dict) else {"error": "the child's answer is none"}

    def _failed(self, why: str) -> dict[str, Any]:
        self.close()
        return {"error": why}

    def close(self) -> None:
        """End the child and forget about it. A child that hangs in the kernel is reaped with a later one."""
        if self._answers < 0:
            return
        os.close(self._answers)
        self._answers = -1
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: it is another user's by now
            os.kill(self.pid, signal.SIGKILL)
        _left.append(self.pid)
        reap()


_left: list[int] = []
"""Children that were told to end and may not have yet."""


def reap() -> None:
    """Bury the children that have ended."""
    for pid in list(_left):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # somebody else did
            ended = pid
        if ended:
            _left.remove(pid)
