"""A connection to QEMU's machine protocol: one command, one answer."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER_LIMIT_S = 30.0


class RefusedError(RuntimeError):
    """QEMU did not do what it was told."""


def connect(path: Path, limit_s: float, is_hopeless: Callable[[], bool]) -> socket.socket:
    """Connect to a socket that QEMU is about to make."""
    end_s = time.monotonic() + limit_s
    while True:
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            peer.close()
            if is_hopeless() or time.monotonic() > end_s:
                raise TimeoutError(f"QEMU does not listen on {path}") from error
            time.sleep(0.02)
        else:
            return peer


class Monitor:
    """One connection; events are read over."""

    def __init__(self, peer: socket.socket) -> None:
        """Take over a connected socket."""
        self._peer = peer
        self._peer.settimeout(ANSWER_LIMIT_S)
        self._lines = peer.makefile("rb")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Execute a command; underscores in argument names stand for dashes. Raises RefusedError."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._peer.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        for line in self._lines:
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RefusedError(f"{command} {named}: {answer['error']['desc']}")
        raise RefusedError(f"{command}: QEMU has gone")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._peer.close()
