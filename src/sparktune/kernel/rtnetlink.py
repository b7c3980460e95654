"""Changes of links and addresses through rtnetlink: which interface it was. Reads only; sets nothing."""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress

from sparktune.frozen import frozen
from sparktune.kernel.netlink import align, attributes

_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 17, 20, 21
_IFLA_IFNAME = 3
_IFF_LOWER_UP = 0x10000
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_BUFFER_BYTES = 65536
_QUEUE_BYTES = 1 << 20
_SO_RCVBUFFORCE = 33


@frozen(kw_only=False)
class LinkEvent:
    """One change of an interface.

    Attributes:
        name: the interface.
        carrier: whether it is up and has a carrier; None: its addresses changed, or it is gone.
    """

    name: str
    carrier: bool | None


class LinkWatch:
    """A socket that hears of each link and address of this network namespace. Source: rtnetlink(7)."""

    def __init__(self) -> None:
        """Open and join the groups. Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        with suppress(OSError):  # without CAP_NET_ADMIN the default size must do; an overflow is noticed
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> tuple[LinkEvent, ...] | None:
        """What changed, in this order; None if messages were lost: anything may have changed."""
        events: list[LinkEvent] = []
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return tuple(events)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # the queue ran over
                    return None
                raise
            events += link_events(data)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def link_events(data: bytes) -> list[LinkEvent]:
    """The events in a netlink datagram; damaged messages end the list, other kinds are left out."""
    events: list[LinkEvent] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            break
        body = data[offset + _HEADER.size : offset + length]
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            events += _link_in(body, gone=kind == _RTM_DELLINK)
        elif kind in (_RTM_NEWADDR, _RTM_DELADDR):
            events += _address_in(body)
        offset += align(length)
    return events


def _link_in(body: bytes, *, gone: bool) -> list[LinkEvent]:
    if len(body) < _LINK.size:
        return []
    name = dict(attributes(body[_LINK.size :])).get(_IFLA_IFNAME)
    if name is None:
        return []
    up = bool(_LINK.unpack_from(body)[3] & _IFF_LOWER_UP)
    return [LinkEvent(os.fsdecode(name.rstrip(b"\0")), None if gone else up)]


def _address_in(body: bytes) -> list[LinkEvent]:
    """Its interface by number: only IPv4 messages carry a name, and that may be an alias."""
    if len(body) < _ADDRESS.size:
        return []
    try:
        return [LinkEvent(socket.if_indextoname(_ADDRESS.unpack_from(body)[4]), None)]
    except (OSError, OverflowError):  # it left meanwhile, which is an event of its own
        return []
