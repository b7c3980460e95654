"""Addresses of other nodes, and which interface leads there. Text and numbers only: no resolver, no I/O."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sparktune.errors import UsageError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PEERS = 64

_LINK_LOCAL = (0xFE80 << 112, 10)
_MAPPED = (0xFFFF << 32, 96)
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


@frozen(kw_only=False)
class Peer:
    """One address of another node.

    Attributes:
        address: as it is shown, without a scope: `192.168.100.11`, `fd00::11`.
        family: AF_INET or AF_INET6.
        number: the address as a number.
        scope: the interface of an IPv6 link-local address; empty for all others.
    """

    address: str
    family: socket.AddressFamily
    number: int
    scope: str = ""

    @property
    def name(self) -> str:
        """As it stands in an id, where dots separate: `192-168-100-11`, `fd00--11`. No two are alike."""
        return self.address.replace(".", "-").replace(":", "-")

    def __str__(self) -> str:
        """As it is written in the configuration, in one form: `fe80::1%enp1s0f0np0`."""
        return f"{self.address}%{self.scope}" if self.scope else self.address


def parse_peer(text: str) -> Peer:
    """A peer from the configuration.

    Raises:
        UsageError: it is no address of another node, and why.
    """
    address, _, scope = text.partition("%")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
    except (OSError, ValueError) as error:
        raise UsageError(f"no IP address: {text[:60]!r}", hint=_what_instead(text)) from error
    number = int.from_bytes(packed, "big")
    reason = _why_not(family, number, scope)
    if reason:
        raise UsageError(f"no address of another node: {text[:60]}", hint=reason)
    return Peer(socket.inet_ntop(family, packed), family, number, scope)


def _what_instead(text: str) -> str:
    if "/" in text:
        return "a single address, without a prefix length"
    if any(letter.isalpha() for letter in text) and ":" not in text:
        return (
            "names are not resolved: that may block, and a name often leads to another interface; write the "
            "address that the other node has on the ConnectX port (there: ip -brief address)"
        )
    return "an IPv4 or IPv6 address"


def _why_not(family: socket.AddressFamily, number: int, scope: str) -> str:
    if family == socket.AF_INET:
        if scope:
            return "an IPv4 address has no scope"
        first = number >> 24
        is_special = first in (0, 127) or first >= 224  # noqa: PLR2004 - 224.0.0.0: multicast and above
        return "it stands for no single machine, or for this one" if is_special else ""
    if number in (0, 1) or number >> 120 == 0xFF or _is_within(family, number, _MAPPED):  # noqa: PLR2004
        return "it stands for no single machine, or for this one, or is an IPv4 address: write that as such"
    if is_link_local(family, number) != bool(scope):
        return "a link-local address (fe80::) needs its interface, and only that: fe80::1%enp1s0f0np0"
    return "" if "/" not in scope and scope.isprintable() else "no name of an interface behind the %"


def is_link_local(family: int, number: int) -> bool:
    """Whether it is an IPv6 address of fe80::/10."""
    return family == socket.AF_INET6 and _is_within(family, number, _LINK_LOCAL)


def _is_within(family: int, number: int, subnet: tuple[int, int]) -> bool:
    shift = _BITS[socket.AddressFamily(family)] - subnet[1]
    return number >> shift == subnet[0] >> shift


@frozen(kw_only=False)
class OwnAddress:
    """One address of an interface of this machine.

    Attributes:
        family: AF_INET or AF_INET6.
        number: the address as a number.
        prefix: the length of its subnet's prefix.
    """

    family: socket.AddressFamily
    number: int
    prefix: int

    def shares_subnet(self, peer: Peer) -> bool:
        """Whether the peer is on this address's subnet. A link-local one is on the link that it names."""
        if self.family != peer.family or peer.scope:
            return False
        return _is_within(self.family, peer.number, (self.number, self.prefix))


def parse_own(text: str) -> OwnAddress | None:
    """`192.168.100.10/24` or `fd00::10/64`; None if it is neither."""
    address, _, prefix = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        number = int.from_bytes(socket.inet_pton(family, address), "big")
        length = int(prefix)
    except (OSError, ValueError):
        return None
    return OwnAddress(family, number, length) if 0 <= length <= _BITS[family] else None


def leads_to(netdev: str, addresses: Sequence[OwnAddress], peer: Peer) -> bool:
    """Whether this interface is the one for this peer."""
    return peer.scope == netdev if peer.scope else any(own.shares_subnet(peer) for own in addresses)


def is_own(addresses: Sequence[OwnAddress], peer: Peer) -> bool:
    """Whether the peer is one of these addresses itself."""
    return any((own.family, own.number) == (peer.family, peer.number) for own in addresses)
