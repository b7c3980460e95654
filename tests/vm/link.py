"""The host's end of the line to the guest's agent: requests by number, answers in any order, over reboots."""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket


class LostError(RuntimeError):
    """The guest went away, or did not answer in time."""


@dataclass(slots=True)
class Pending:
    """A request that waits for its answer."""

    number: int
    what: str
    done: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] | None = None

    def wait(self, limit_s: float) -> dict[str, Any]:
        """The answer. Raises LostError."""
        if not self.done.wait(limit_s):
            raise LostError(f"no answer within {limit_s:.0f} s to: {self.what}")
        if self.answer is None:
            raise LostError(f"the guest went down before it answered: {self.what}")
        if "error" in self.answer:
            raise LostError(f"{self.what}: {self.answer['error']}")
        return self.answer


class Link:
    """One connection, for the life of one QEMU."""

    def __init__(self, peer: socket.socket) -> None:
        """Take over a connected socket."""
        self._peer = peer
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {}
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._hellos: list[str] = []
        self._closed = False
        threading.Thread(target=self._receive, name="agent link", daemon=True).start()

    @property
    def boots(self) -> int:
        """How many times a booted guest has greeted."""
        return len(self._hellos)

    def await_boot(self, number: int, limit_s: float) -> None:
        """Wait for the greeting of a boot. Raises LostError."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._hellos) >= number, limit_s)
            if len(self._hellos) < number:
                silence = f"the guest's agent did not answer within {limit_s:.0f} s"
                raise LostError("QEMU ended" if self._closed else silence)

    def submit(self, do: str, what: str, **arguments: Any) -> Pending:
        """Send a request. Raises LostError."""
        pending = Pending(next(self._numbers), what)
        with self._changed:
            if self._closed:
                raise LostError(f"the guest is down: {what}")
            self._pending[pending.number] = pending
        line = json.dumps({"id": pending.number, "do": do, **arguments}).encode() + b"\n"
        try:
            with self._sending:
                self._peer.sendall(line)
        except OSError as error:
            raise LostError(f"the guest is down: {what}") from error
        return pending

    def close(self) -> None:
        """Hang up."""
        self._peer.close()

    def _receive(self) -> None:
        try:
            with self._peer.makefile("rb") as lines:
                for line in lines:
                    self._take(line)
        except OSError:  # the socket was closed, or QEMU killed
            pass
        with self._changed:
            self._closed = True
            self._drop_pending()
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:  # what a guest had half said when it was reset
            return
        with self._changed:
            if "hello" in message:
                self._drop_pending()
                self._hellos.append(message["hello"])
                self._changed.notify_all()
            elif (pending := self._pending.pop(message["id"], None)) is not None:
                pending.answer = message
                pending.done.set()

    def _drop_pending(self) -> None:
        for pending in self._pending.values():
            pending.done.set()
        self._pending.clear()
