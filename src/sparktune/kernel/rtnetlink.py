"""Link changes through rtnetlink: which interfaces came, went, or changed. Reads only; sets nothing."""

from __future__ import annotations

import errno
import os
import socket
import struct

_RTMGRP_LINK = 1
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_IFLA_IFNAME = 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK_BYTES = 16  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_BUFFER_BYTES = 65536


def _align(length: int) -> int:
    return (length + 3) & ~3


class LinkWatch:
    """A socket that hears every link change of this network namespace. Source: rtnetlink(7)."""

    def __init__(self) -> None:
        """Open and join the link group. Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _RTMGRP_LINK))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> set[str] | None:
        """Names of the interfaces that changed; None if messages were lost: anything may have changed."""
        names: set[str] = set()
        while True:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return names
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # the queue ran over
                    return None
                raise
            names |= interface_names(data)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def interface_names(data: bytes) -> set[str]:
    """The IFLA_IFNAME of every link message in a netlink datagram; damaged messages end the list."""
    names: set[str] = set()
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            break
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            names |= _name_in(data[offset + _HEADER.size + _LINK_BYTES : offset + length])
        offset += _align(length)
    return names


def _name_in(data: bytes) -> set[str]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        if kind == _IFLA_IFNAME:
            return {os.fsdecode(data[offset + _ATTRIBUTE.size : offset + length].rstrip(b"\0"))}
        offset += _align(length)
    return set()
