"""Asks the kernel over netlink and gives what it answers: a request, its replies, its error. Judges nothing.

The kernel works on a request while it is sent, so there is nothing to wait for but the answer in the queue; a
short timeout stands against a kernel that never sends one. Sources:
Documentation/userspace-api/netlink/intro.rst, netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUTE, GENERIC, RDMA = 0, 16, 20
"""NETLINK_ROUTE, NETLINK_GENERIC, NETLINK_RDMA."""
NESTED = 0x8000

TIMEOUT_S = 1.0

_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_MULTIPART, _DUMP_INTERRUPTED = 0x2, 0x10
_CAPPED, _WITH_ATTRIBUTES = 0x100, 0x200
_MESSAGE_TEXT = 1  # NLMSGERR_ATTR_MSG
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_TYPE_MASK = 0x3FFF
_BUFFER_BYTES = 65536
_MOST_DATAGRAMS = 4096
_MOST_TEXT = 200

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_GENERIC = struct.Struct("=BBH")  # struct genlmsghdr
_CODE = struct.Struct("=i")

# include/uapi/linux/genetlink.h
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2


def align(length: int) -> int:
    """The length with its padding to four bytes."""
    return (length + 3) & ~3


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute with its header and padding."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data.ljust(align(len(data)), b"\0")


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(inner))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type (without its flags) and value of each attribute; a damaged one ends the list."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += align(length)


def number(data: bytes | None, *, size: int) -> int:
    """An unsigned number of this size in the machine's byte order. Raises OSError (EBADMSG) for another."""
    if data is None or len(data) != size:
        got = "none" if data is None else f"{len(data)} bytes"
        raise OSError(errno.EBADMSG, f"damaged answer of the kernel: {size} bytes expected, {got} there")
    return int.from_bytes(data, sys.byteorder)


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket that gives up after a second. Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        opened.bind((0, 0))
        opened.settimeout(TIMEOUT_S)
        for option in (_CAP_ACK, _EXT_ACK):  # a kernel without them says the same in fewer words
            with suppress(OSError):
                opened.setsockopt(_SOL_NETLINK, option, 1)
    except OSError:
        opened.close()
        raise
    return opened


class Netlink:
    """Requests over one netlink protocol; the socket is opened for a request and closed after it."""

    def __init__(self, protocol: int, opener: Callable[[int], socket.socket] = open_socket) -> None:
        """Open nothing yet.

        Args:
            protocol: `ROUTE`, `GENERIC` or `RDMA`.
            opener: gives a socket of a protocol; another one in tests.
        """
        self._protocol = protocol
        self._open = opener
        self._families: dict[str, int] = {}
        self._sequence = 0

    def ask(self, kind: int, body: bytes) -> bytes:
        """One request with one answer.

        Returns:
            The answer behind its header; empty if the kernel only acknowledged.

        Raises:
            OSError: as the kernel answered, with its explanation; ETIMEDOUT if it did not.
        """
        with self._open(self._protocol) as asked:
            sequence = self._send(asked, kind, _REQUEST | _ACK, body)
            return b"".join(self._replies(asked, sequence))

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """One request with many answers; leaving off early costs the kernel no more. Raises OSError."""
        with self._open(self._protocol) as asked:
            sequence = self._send(asked, kind, _REQUEST | _DUMP, body)
            yield from self._replies(asked, sequence)

    def ask_family(self, family: str, command: int, body: bytes) -> bytes:
        """One request to a generic netlink family, by its name.

        Returns:
            The answer's attributes; empty if the kernel only acknowledged.

        Raises:
            OSError: as the kernel answered; ENOENT if there is no such family.
        """
        if family not in self._families:
            self._families[family] = self._find_family(family)
        answer = self.ask(self._families[family], _GENERIC.pack(command, 1, 0) + body)
        return answer[_GENERIC.size :]

    def _find_family(self, family: str) -> int:
        name = attribute(_FAMILY_NAME, family.encode() + b"\0")
        answer = self.ask(_CONTROLLER, _GENERIC.pack(_GET_FAMILY, 1, 0) + name)
        return number(dict(attributes(answer[_GENERIC.size :])).get(_FAMILY_ID), size=2)

    def _send(self, asked: socket.socket, kind: int, flags: int, body: bytes) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        asked.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        return self._sequence

    def _replies(self, asked: socket.socket, sequence: int) -> Iterator[bytes]:
        """What is behind the header of each reply, until the kernel says that there is no more."""
        for _ in range(_MOST_DATAGRAMS):
            try:
                data = asked.recv(_BUFFER_BYTES)
            except TimeoutError as error:
                raise OSError(errno.ETIMEDOUT, "the kernel did not answer within a second") from error
            if not data:
                raise OSError(errno.EBADMSG, "the kernel's answer is empty")
            for kind, flags, payload in messages(data, sequence):
                if flags & _DUMP_INTERRUPTED:
                    raise OSError(errno.EINTR, "what was listed changed meanwhile")
                if kind in (_ERROR, _DONE):
                    _raise_error(payload, flags)
                    return
                yield payload
        raise OSError(errno.EMSGSIZE, "the kernel's answer does not end")


def messages(data: bytes, sequence: int) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and payload of the messages that answer a request. Raises OSError (EBADMSG) if damaged."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, number_, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise OSError(errno.EBADMSG, f"the kernel's answer is damaged: a message of {length} bytes")
        if number_ == sequence:  # an answer to an earlier request that had timed out is none to this one
            yield kind, flags, data[offset + _HEADER.size : offset + length]
        offset += align(length)


def _raise_error(payload: bytes, flags: int) -> None:
    """Raise what an error or the end of a dump says; zero is an acknowledgement."""
    code = -_CODE.unpack_from(payload)[0] if len(payload) >= _CODE.size else 0
    if code <= 0:
        return
    code = code if code in errno.errorcode else errno.EIO
    text = _explanation(payload, flags)
    raise OSError(code, f"{os.strerror(code)}: {text}" if text else os.strerror(code))


def _explanation(payload: bytes, flags: int) -> str:
    """The kernel's own words about an error, if it has any."""
    if not flags & _WITH_ATTRIBUTES or not flags & _CAPPED:
        return ""
    text = dict(attributes(payload[_CODE.size + _HEADER.size :])).get(_MESSAGE_TEXT, b"")
    words = text.rstrip(b"\0").decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:_MOST_TEXT]
