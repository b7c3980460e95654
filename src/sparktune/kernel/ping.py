"""Pings of a given size out of a given interface, never fragmented on the way; sends and reads, never waits.

The answers queue up in the socket until somebody reads them. What they mean is decided elsewhere.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from sparktune.frozen import frozen

_ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence: RFC 792, RFC 4443
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err, include/uapi/linux/errqueue.h
_NUMBER = struct.Struct("=i")
_HEAD_BYTES = 256
"""Enough of an answer: the IP header that a raw socket shows, and the echo header behind it."""
_MOST_ANSWERS = 4096
_QUEUE_BYTES = 1 << 20
_DROPPED = frozenset({errno.EAGAIN, errno.ENOBUFS})
"""A queue was full, or the device dropped it: no answer will come, and it is sent again."""

# include/uapi/linux/in.h, in6.h, icmp.h, icmpv6.h; ip(7), ipv6(7)
_PROBE = 3  # IP_PMTUDISC_PROBE: do not fragment, and do not believe a path MTU that was learnt before
_IP_MTU_DISCOVER, _IP_RECVERR, _IP_RECVFRAGSIZE = 10, 11, 25
_IPV6_MTU_DISCOVER, _IPV6_RECVERR, _IPV6_DONTFRAG, _IPV6_RECVFRAGSIZE = 23, 25, 62, 77
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1


@frozen(kw_only=False)
class _Kind:
    """What differs between IPv4 and IPv6."""

    protocol: int
    level: int
    request: int
    reply: int
    headers: int
    errors: int
    fragments: int
    options: tuple[tuple[int, int], ...]
    raw_filter: tuple[int, int, bytes]


_KINDS = {
    socket.AF_INET: _Kind(
        protocol=socket.IPPROTO_ICMP,
        level=socket.IPPROTO_IP,
        request=8,
        reply=0,
        headers=20 + _ECHO.size,
        errors=_IP_RECVERR,
        fragments=_IP_RECVFRAGSIZE,
        options=((_IP_MTU_DISCOVER, _PROBE), (_IP_RECVERR, 1), (_IP_RECVFRAGSIZE, 1)),
        raw_filter=(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << 0))),
    ),
    socket.AF_INET6: _Kind(
        protocol=socket.IPPROTO_ICMPV6,
        level=socket.IPPROTO_IPV6,
        request=128,
        reply=129,
        headers=40 + _ECHO.size,
        errors=_IPV6_RECVERR,
        fragments=_IPV6_RECVFRAGSIZE,
        options=(
            (_IPV6_MTU_DISCOVER, _PROBE),
            (_IPV6_DONTFRAG, 1),
            (_IPV6_RECVERR, 1),
            (_IPV6_RECVFRAGSIZE, 1),
        ),
        raw_filter=(
            socket.IPPROTO_ICMPV6,
            _ICMPV6_FILTER,
            (~(1 << 129) & (1 << 256) - 1).to_bytes(32, "little"),  # 8 words, one bit a type
        ),
    ),
}


@frozen
class Answer:
    """What came back for one ping.

    Attributes:
        sequence: of the ping.
        error: 0 for an echo, else the errno by which the kernel or a router refused it.
        source: who sent the echo; empty with an error.
        mtu: with an error the MTU that the refusal names; with an echo the size of the largest fragment it
            came in, of an answer that was fragmented; None if neither.
    """

    sequence: int
    error: int = 0
    source: str = ""
    mtu: int | None = None


class Pinger:
    """One socket for the pings out of one interface, to IPv4 or IPv6 addresses.

    An ICMP datagram socket where `net.ipv4.ping_group_range` admits our group (icmp(7)), else a raw one,
    which takes CAP_NET_RAW (raw(7)). Bound to the interface: an answer that comes in by another one is none.
    """

    def __init__(self, netdev: str, family: int) -> None:
        """Open it.

        Args:
            netdev: the interface.
            family: AF_INET or AF_INET6.

        Raises:
            OSError: EACCES or EPERM: not allowed; EAFNOSUPPORT: forbidden by the unit; ENODEV: no interface.
        """
        self._kind = _KINDS[socket.AddressFamily(family)]
        self._family = family
        try:
            self._scope = socket.if_nametoindex(netdev)
        except OSError as error:  # before Python 3.13 it has no errno
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), netdev) from error
        self._socket, self._is_raw = _open(family, self._kind)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        try:
            self._set_up(netdev)
        except OSError:
            self._socket.close()
            raise

    def _set_up(self, netdev: str) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(netdev) + b"\0")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _QUEUE_BYTES)
        for option, value in self._kind.options:
            self._socket.setsockopt(self._kind.level, option, value)
        if self._is_raw:
            self._socket.setsockopt(*self._kind.raw_filter)

    def send(self, address: str, sequence: int, size: int) -> None:
        """Send one ping.

        Args:
            address: numeric, without a scope.
            sequence: 0 to 65535, to know its answer by.
            size: bytes of the whole IP packet.

        Raises:
            OSError: as the kernel gave it: EMSGSIZE above the interface's MTU, ENETUNREACH, EPERM (a filter).
        """
        payload = bytes(max(size - self._kind.headers, 0))
        packet = _echo(self._kind.request, self._identifier, sequence, payload)
        to = (address, 0) if self._family == socket.AF_INET else (address, 0, 0, self._scope_of(address))
        try:
            self._socket.sendto(packet, to)
        except OSError as error:
            if error.errno not in _DROPPED:
                raise

    def _scope_of(self, address: str) -> int:
        return self._scope if address.lower().startswith("fe80:") else 0

    def read(self) -> list[Answer]:
        """Everything that came back since the last call; never waits."""
        found = []
        for _ in range(_MOST_ANSWERS):
            try:
                answer = self._receive()
            except BlockingIOError:
                break
            except OSError:  # a refusal, told once here and in full by the error queue below
                continue
            if answer is not None:
                found.append(answer)
        for _ in range(_MOST_ANSWERS):
            try:
                refusal = self._receive_error()
            except OSError:  # EAGAIN: the queue is empty
                break
            if refusal is not None:
                found.append(refusal)
        return found

    def _receive(self) -> Answer | None:
        data, ancillary, _, source = self._socket.recvmsg(_HEAD_BYTES, 256)
        if self._is_raw and self._family == socket.AF_INET:
            data = data[4 * (data[0] & 15) if data else 0 :]
        header = self._header(data, self._kind.reply)
        if header is None:
            return None
        pieces = [cell[2] for cell in ancillary if cell[:2] == (self._kind.level, self._kind.fragments)]
        mtu = _NUMBER.unpack_from(pieces[0])[0] if pieces else None
        return Answer(sequence=header, source=str(source[0]).partition("%")[0], mtu=mtu or None)

    def _receive_error(self) -> Answer | None:
        data, ancillary, _, _ = self._socket.recvmsg(_HEAD_BYTES, 512, socket.MSG_ERRQUEUE)
        sequence = self._header(data, self._kind.request)
        for level, kind, content in ancillary:
            if (level, kind) == (self._kind.level, self._kind.errors) and sequence is not None:
                error, _, _, _, _, mtu, _ = _EXTENDED_ERROR.unpack_from(content)
                return Answer(sequence=sequence, error=error, mtu=mtu or None)
        return None

    def _header(self, data: bytes, kind: int) -> int | None:
        """The sequence in an echo of ours; None if it is something else. A raw socket hears all."""
        if len(data) < _ECHO.size:
            return None
        found, _, _, identifier, sequence = _ECHO.unpack_from(data)
        is_mine = not self._is_raw or identifier == self._identifier
        return int(sequence) if found == kind and is_mine else None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _open(family: int, kind: _Kind) -> tuple[socket.socket, bool]:
    how = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        return socket.socket(family, socket.SOCK_DGRAM | how, kind.protocol), False
    except PermissionError:  # net.ipv4.ping_group_range leaves our group out, as is the kernel's default
        return socket.socket(family, socket.SOCK_RAW | how, kind.protocol), True


def _echo(kind: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request. IPv6's checksum, and that of a datagram socket, the kernel makes."""
    header = _ECHO.pack(kind, 0, 0, identifier, sequence)
    return _ECHO.pack(kind, 0, _checksum(header + payload), identifier, sequence) + payload


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
