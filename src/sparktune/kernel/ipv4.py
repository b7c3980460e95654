"""IPv4 addresses of the interfaces of our network namespace, through rtnetlink. Reads only."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.kernel.root import Root

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_BUFFER_BYTES = 65536
_PATIENCE_S = 0.5
_MOST_DATAGRAMS = 1024


def ipv4_addresses(root: Root) -> dict[str, tuple[str, ...]]:
    """The addresses with prefix length (`192.168.100.10/24`) of each interface, by its name.

    In a tree: the lines of `netlink/addr/ipv4` of the interface. Source: rtnetlink(7), RTM_GETADDR.
    """
    if not root.is_real:
        net = "/sys/class/net"
        listed = {
            name: (root.read(f"{net}/{name}/netlink/addr/ipv4") or "").split() for name in root.names(net)
        }
        return {name: tuple(lines) for name, lines in listed.items() if lines}
    found: dict[str, tuple[str, ...]] = {}
    for index, address in _dump():
        try:
            name = socket.if_indextoname(index)
        except OSError:  # it left in between
            continue
        found[name] = (*found.get(name, ()), address)
    return found


def _dump() -> list[tuple[int, str]]:
    """Interface index and address, for all; what was heard until then when the kernel refuses."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    found: list[tuple[int, str]] = []
    try:
        with socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as peer:
            peer.settimeout(_PATIENCE_S)  # a dump is queued before the request returns: nothing is waited for
            body = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
            flags = _NLM_F_REQUEST | _NLM_F_DUMP
            peer.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, flags, 1, 0) + body)
            for _ in range(_MOST_DATAGRAMS):
                heard, ended = parse_addresses(peer.recv(_BUFFER_BYTES))
                found += heard
                if ended:
                    break
    except OSError:  # no netlink here, or its buffer ran over: the addresses are not known
        pass
    return found


def parse_addresses(data: bytes) -> tuple[list[tuple[int, str]], bool]:
    """The addresses in a datagram, and whether the dump ends with it; damaged messages end the list."""
    found: list[tuple[int, str]] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data) or kind in (_NLMSG_DONE, _NLMSG_ERROR):
            return found, True
        if kind == _RTM_NEWADDR and length >= _HEADER.size + _ADDRESS.size:
            family, prefix, _, _, index = _ADDRESS.unpack_from(data, offset + _HEADER.size)
            attributes = dict(_attributes(data[offset + _HEADER.size + _ADDRESS.size : offset + length]))
            address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
            if family == socket.AF_INET and len(address) == 4:  # noqa: PLR2004 - an IPv4 address
                found.append((index, f"{socket.inet_ntoa(address)}/{prefix}"))
        offset += (length + 3) & ~3
    return found, False


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
