"""IPv4 addresses of the interfaces of our network namespace, through rtnetlink. Reads only."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from sparktune.kernel.netlink import ROUTE, Netlink, attributes

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

_RTM_GETADDR = 22
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg


def ipv4_addresses(root: Root) -> dict[str, tuple[str, ...]]:
    """The addresses with prefix length (`192.168.100.10/24`) of each interface, by its name.

    In a tree: the lines of `netlink/addr/ipv4` of the interface. Source: rtnetlink(7), RTM_GETADDR.
    """
    net = "/sys/class/net"
    if not root.is_real:
        listed = {
            name: (root.read(f"{net}/{name}/netlink/addr/ipv4") or "").split() for name in root.names(net)
        }
        return {name: tuple(lines) for name, lines in listed.items() if lines}
    found: dict[str, tuple[str, ...]] = {}
    with suppress(OSError):  # no netlink here, or it changed while it was listed: what was heard is known
        for body in Netlink(ROUTE).dump(_RTM_GETADDR, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
            told = parse_address(body)
            if told is None:
                continue
            with suppress(OSError):  # the interface left in between
                name = socket.if_indextoname(told[0])
                found[name] = (*found.get(name, ()), told[1])
    return found


def parse_address(body: bytes) -> tuple[int, str] | None:
    """Interface index and address of an RTM_NEWADDR message; None for another family or a damaged one."""
    if len(body) < _ADDRESS.size:
        return None
    family, prefix, _, _, index = _ADDRESS.unpack_from(body)
    told = dict(attributes(body[_ADDRESS.size :]))
    address = told.get(_IFA_LOCAL) or told.get(_IFA_ADDRESS) or b""
    if family != socket.AF_INET or len(address) != 4:  # noqa: PLR2004 - an IPv4 address
        return None
    return index, f"{socket.inet_ntoa(address)}/{prefix}"
