"""Fabrics made by hand, for tests of what is concluded from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparktune.fabric.model import Fabric, Function, Gid, Presence, RdmaPort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMES = (
    ("0000:01:00.0", "enp1s0f0np0", "rocep1s0f0", "p0"),
    ("0000:01:00.1", "enp1s0f1np1", "rocep1s0f1", "p1"),
    ("0002:01:00.0", "enP2p1s0f0np0", "roceP2p1s0f0", "p0"),
    ("0002:01:00.1", "enP2p1s0f1np1", "roceP2p1s0f1", "p1"),
)


def gids(netdev: str, *addresses: str, first: int = 0) -> tuple[Gid, ...]:
    """A GID table: link-local first, then each address, once for v1 and once for v2."""
    found: list[Gid] = []
    for address in ("", *addresses):
        gid = "fe80:0000:0000:0000:029f:8fff:fe00:0001"
        if address:
            octets = [int(octet) for octet in address.split(".")]
            gid = "0000:0000:0000:0000:0000:ffff:{:02x}{:02x}:{:02x}{:02x}".format(*octets)
        for kind in ("IB/RoCE v1", "RoCE v2"):
            index = len(found) + (first if address else 0)
            found.append(Gid(index=index, gid=gid, kind=kind, netdev=netdev, ipv4=address))
    return tuple(found)


def function(number: int, *addresses: str, up: bool = True, first: int = 0, **other: Any) -> Function:
    """One of the four functions of a Spark, with these addresses."""
    bdf, netdev, device, port = NAMES[number]
    netdev, device = other.pop("netdev", netdev), other.pop("device", device)
    rdma = RdmaPort(
        device=device,
        number=1,
        state="ACTIVE" if up else "DOWN",
        link_layer="Ethernet",
        rate_gbps=200.0,
        gids=gids(netdev, *addresses, first=first),
    )
    given = {"carrier": up, "mtu": 9000, "rdma": rdma, "port": port, **other}
    return Function(bdf=bdf, netdev=netdev, addresses=tuple(f"{one}/24" for one in addresses), **given)


def fabric(*functions: Function) -> Fabric:
    return Fabric(presence=Presence.PRESENT, functions=functions)


def healthy(*, both_ports: bool = False) -> Fabric:
    """p0 is cabled, and p1 too on request; each twin in a subnet of its own."""
    second = [("192.168.102.10",), ("192.168.103.10",)] if both_ports else [(), ()]
    return fabric(
        function(0, "192.168.100.10"),
        function(1, *second[0], up=both_ports),
        function(2, "192.168.101.10"),
        function(3, *second[1], up=both_ports),
    )


def changed(found: Fabric, name: str, change: Callable[[Function], Function]) -> Fabric:
    """The fabric with one function, given by its interface, as `change` makes it."""
    functions = (change(one) if one.netdev == name else one for one in found.functions)
    return replace(found, functions=tuple(functions))


def with_rdma(one: Function, **values: Any) -> Function:
    assert one.rdma is not None
    return replace(one, rdma=replace(one.rdma, **values))


def named(names: Iterable[tuple[str, str]]) -> Fabric:
    """A healthy p0 whose interfaces and RDMA devices have these names."""
    (first, first_device), (second, second_device) = names
    return fabric(
        function(0, "192.168.100.10", netdev=first, device=first_device),
        function(2, "192.168.101.10", netdev=second, device=second_device),
    )
