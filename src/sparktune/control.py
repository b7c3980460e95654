"""The root-only control socket: everything that changes the host while the daemon runs goes through it.

One JSON object a line, one answer a line. A client that is slow, silent or talkative costs only itself.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sparktune.errors import DaemonNotRunningError, RefusedError, SparktuneError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOCKET_NAME = "control.sock"
LONGEST_REQUEST = 65536
MOST_CLIENTS = 16
PATIENCE_S = 5.0
ANSWER_WITHIN_S = 60.0

_PEER = struct.Struct("=iII")  # struct ucred
_LONGEST_PATH = 107  # sizeof(sockaddr_un.sun_path) - 1


@frozen(kw_only=False)
class Peer:
    """Who asks, as the kernel says it (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        """`root` or `uid 1000`."""
        return "root" if self.uid == 0 else f"uid {self.uid}"


Answer = dict[str, Any]


class _Client:
    """One connection: bytes in, bytes out, and when our patience ends."""

    def __init__(self, connection: socket.socket, peer: Peer, *, now_s: float) -> None:
        self.connection = connection
        self.peer = peer
        self.incoming = b""
        self.outgoing = b""
        self.ends_s = now_s + PATIENCE_S

    def fill(self) -> bool:
        """Read what there is; False when the client has gone or says too much."""
        try:
            data = self.connection.recv(LONGEST_REQUEST)
        except BlockingIOError:
            return True
        except OSError:  # reset by the client
            return False
        self.incoming += data
        return bool(data) and len(self.incoming) <= LONGEST_REQUEST

    def flush(self) -> bool:
        """Send what fits; False when everything is sent or the client has gone."""
        try:
            sent = self.connection.send(self.outgoing)
        except BlockingIOError:
            return True
        except OSError:  # it no longer listens
            return False
        self.outgoing = self.outgoing[sent:]
        return bool(self.outgoing)


class ControlServer:
    """Listens on the control socket inside somebody else's event loop."""

    def __init__(self, run_dir: Path, handle: Callable[[dict[str, Any], Peer], Answer]) -> None:
        """Bind the socket, readable and writable for its owner only.

        Args:
            run_dir: where the socket lies.
            handle: answers a request; called only for permitted peers.

        Raises:
            SparktuneError: it cannot be bound.
        """
        self._path = run_dir / SOCKET_NAME
        self._handle = handle
        self._clients: dict[int, _Client] = {}
        self.refused: list[Peer] = []
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            raise SparktuneError(f"{self._path}: too long for a socket", hint="choose a shorter --run-dir")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)  # left by a daemon that was killed; the host lock is ours
            mask = os.umask(0o177)
            try:
                self._socket.bind(str(self._path))
            finally:
                os.umask(mask)
            self._socket.listen(MOST_CLIENTS)
        except OSError as error:
            self._socket.close()
            raise SparktuneError(
                f"cannot listen on {self._path}: {error.strerror}", hint="is the run directory writable?"
            ) from error

    def fileno(self) -> int:
        """The listening descriptor."""
        return self._socket.fileno()

    def accept(self) -> int | None:
        """Take a waiting client. The descriptor to wait on; None without one, or when it is refused."""
        try:
            connection, _ = self._socket.accept()
        except OSError:  # it went again, or we are out of descriptors: the next one may do
            return None
        connection.settimeout(0)
        peer = Peer(*_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)))
        client = _Client(connection, peer, now_s=time.monotonic())
        if peer.uid not in (0, os.geteuid()):
            self.refused.append(peer)
            client.outgoing = _line({"ok": False, "error": "only root may change the host"})
        elif len(self._clients) >= MOST_CLIENTS:
            client.outgoing = _line({"ok": False, "error": "too many requests at once, try again"})
        if client.outgoing:
            client.flush()
            connection.close()
            return None
        self._clients[connection.fileno()] = client
        return connection.fileno()

    def serve(self, descriptor: int) -> bool:
        """Go on with a client. Returns whether to wait for it to take more of the answer."""
        client = self._clients.get(descriptor)
        if client is None:
            return False
        if not client.outgoing and not self._listen(client):
            return False
        if client.flush():
            return True
        self._drop(descriptor)
        return False

    def _listen(self, client: _Client) -> bool:
        """Read; answer a whole line. True when there is something to send."""
        alive = client.fill()
        line, newline, _ = client.incoming.partition(b"\n")
        if not newline:
            if not alive:
                self._drop(client.connection.fileno())
            return False
        client.outgoing = _line(self._answer(line, client.peer))
        return True

    def _answer(self, line: bytes, peer: Peer) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):  # foreign bytes
            return {"ok": False, "error": "no JSON object on one line"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "no JSON object on one line"}
        try:
            return self._handle(request, peer)
        except SparktuneError as error:
            return {"ok": False, "error": error.message, "hint": error.hint, "exit_code": error.exit_code}

    def knows(self, descriptor: int) -> bool:
        """Whether this is a client that is still connected."""
        return descriptor in self._clients

    def drop_slow(self) -> None:
        """Close clients whose time is over."""
        now_s = time.monotonic()
        for descriptor in [number for number, client in self._clients.items() if client.ends_s <= now_s]:
            self._drop(descriptor)

    def due_s(self) -> float | None:
        """When the next client's time is over; None without clients."""
        return min((client.ends_s for client in self._clients.values()), default=None)

    def _drop(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor, None)
        if client is not None:
            client.connection.close()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for descriptor in list(self._clients):
            self._drop(descriptor)
        self._socket.close()
        with suppress(OSError):  # the run directory may be gone already
            self._path.unlink(missing_ok=True)


def _line(answer: Answer) -> bytes:
    # half a surrogate pair, from garbage or from an argument that is no UTF-8, has no encoding
    return json.dumps(answer, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def request(run_dir: Path, message: dict[str, Any]) -> Answer:
    """Ask the daemon and wait for its answer.

    Raises:
        DaemonNotRunningError: nobody listens.
        RefusedError: it said no, or we may not ask.
    """
    path = run_dir / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            connection.connect(str(path))
            with suppress(BrokenPipeError):  # refused at once: the answer is there, our question is not read
                connection.sendall(_line(message))
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise DaemonNotRunningError(
            f"no daemon listens on {path}", hint="start it: systemctl start sparktune"
        ) from error
    except PermissionError as error:
        raise RefusedError(f"{path}: only root may change the host", hint="try again with sudo") from error
    except OSError as error:
        raise RefusedError(
            f"the daemon did not answer on {path}: {error}", hint="journalctl -u sparktune"
        ) from error
    return _checked(line)


def _checked(line: bytes) -> Answer:
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise RefusedError("the daemon closed the connection without an answer") from error
    if not isinstance(answer, dict):
        raise RefusedError("the daemon's answer makes no sense")
    if not answer.get("ok"):
        refusal = RefusedError(str(answer.get("error", "refused")), hint=str(answer.get("hint", "")))
        refusal.exit_code = int(answer.get("exit_code", 1))
        raise refusal
    return answer
