"""A scripted netlink peer: the kernel's side of a request, answering as a test says."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = struct.Struct("=IHHII")
ERROR, DONE, MULTI = 2, 3, 2


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def u8(value: int) -> bytes:
    return struct.pack("=B", value)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def message(kind: int, body: bytes, sequence: int, flags: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def error(code: int, sequence: int, text: str = "") -> bytes:
    """An acknowledgement (0) or an error, with the kernel's explanation if there is one."""
    body = struct.pack("=i", -code) + HEADER.pack(HEADER.size, 0, 0, sequence, 0)
    flags = 0x100
    if text:
        body, flags = body + attribute(1, text.encode() + b"\0"), flags | 0x200
    return message(ERROR, body, sequence, flags)


@dataclass
class Request:
    """What was asked: type, flags and what is behind the header."""

    kind: int
    flags: int
    body: bytes
    sequence: int


@dataclass
class Kernel:
    """Answers each request at once, by a function; no answer at all for None.

    Attributes:
        answer: makes the datagrams of an answer.
        asked: every request.
    """

    answer: Callable[[Request], list[bytes] | None]
    asked: list[Request] = field(default_factory=list)

    def open(self, protocol: int) -> socket.socket:
        """A socket whose other end is this kernel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return _Asking(ours, theirs, self)


class _Asking(socket.socket):
    """Our end; what is sent is answered before `send` returns, as a kernel does."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, kernel: Kernel) -> None:
        super().__init__(fileno=os.dup(ours.fileno()))
        ours.close()
        self._theirs = theirs
        self._kernel = kernel
        self.settimeout(0.2)

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override] # only bytes are sent
        length, kind, asked, sequence, _ = HEADER.unpack_from(data)
        assert length == len(data)
        request = Request(kind, asked, data[HEADER.size :], sequence)
        self._kernel.asked.append(request)
        for datagram in self._kernel.answer(request) or []:
            self._theirs.send(datagram)
        return len(data)

    def close(self) -> None:
        self._theirs.close()
        super().close()


def generic(attributes: dict[int, bytes], family: int = 21) -> Callable[[Request], list[bytes] | None]:
    """A generic netlink family with one object: gets are answered with it, sets acknowledged."""

    def answer(request: Request) -> list[bytes]:
        if request.kind == 16:
            found = attribute(1, struct.pack("=H", family))
            return [
                message(16, struct.pack("=BBH", 1, 2, 0) + found, request.sequence),
                error(0, request.sequence),
            ]
        command = request.body[0]
        if (command % 2 == 0 and command != 20) or command in (16, 20, 22):  # the sets
            return [error(0, request.sequence)]
        body = struct.pack("=BBH", command, 1, 0) + b"".join(attribute(*pair) for pair in attributes.items())
        return [message(family, body, request.sequence), error(0, request.sequence)]

    return answer
