"""IPv6 addresses of the interfaces; IPv4 ones are found with the fabric. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.fabric.peers import OwnAddress, parse_own

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

_FIELDS = 6


def ipv6_addresses(root: Root) -> dict[str, list[OwnAddress]]:
    """The IPv6 addresses of each interface of our network namespace.

    Source: /proc/net/if_inet6 (kernel: net/ipv6/addrconf.c, if6_seq_show): address in hex, ifindex, prefix
    length, scope and flags in hex, name.
    """
    found: dict[str, list[OwnAddress]] = {}
    for line in (root.read("/proc/net/if_inet6") or "").splitlines():
        fields = line.split(maxsplit=_FIELDS - 1)
        if len(fields) != _FIELDS:
            continue
        groups = ":".join(fields[0][place : place + 4] for place in range(0, 32, 4))
        try:
            own = parse_own(f"{groups}/{int(fields[2], 16)}")
        except ValueError:  # a line of another kind
            continue
        if own is not None:
            found.setdefault(fields[5].strip(), []).append(own)
    return found
