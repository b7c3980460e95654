"""The fabric as found: ConnectX-7 functions, their ports, GIDs and owners. Frozen, and without I/O.

`kernel/fabric.py` reads it; checks, `sparktune fabric` and `sparktune nccl` judge it. None is "not known".
"""

from __future__ import annotations

import re
from dataclasses import field
from enum import StrEnum

from sparktune.frozen import frozen


class Presence(StrEnum):
    """Why there are functions, or why there are none."""

    PRESENT = "present"
    POWERED_DOWN = "powered-down"  # hot-plug power management took them away: no cable is plugged in
    NONE = "none"  # and hot-plug power management is not why


class OwnerKind(StrEnum):
    """Who configures an interface."""

    NETPLAN = "netplan"
    NETWORK_MANAGER = "NetworkManager"
    NETWORKD = "systemd-networkd"
    NOBODY = "nobody"
    UNKNOWN = "unknown"  # files that may name the interface are only for root to read


@frozen
class Owner:
    """Who owns an interface's addresses and MTU.

    Attributes:
        kind: the program.
        file: the file that says so (`/etc/netplan/40-cx7.yaml`); empty if none was found.
        key: the place in it: `network.ethernets.enp1s0f0np0`; a connection's or section's name.
        mtu: the MTU that it asks for; None: it asks for none.
        change: the exact change in that file that sets `MTU` (a placeholder) for good; empty for nobody.
    """

    kind: OwnerKind
    file: str = ""
    key: str = ""
    mtu: int | None = None
    change: str = ""

    @property
    def is_somebody(self) -> bool:
        """Whether a program is known that configures the interface."""
        return self.kind not in (OwnerKind.NOBODY, OwnerKind.UNKNOWN)

    def change_to(self, mtu: int) -> str:
        """The change that sets this MTU for good; empty for nobody."""
        return re.sub(r"\bMTU\b", str(mtu), self.change)


@frozen
class Gid:
    """One filled entry of a GID table.

    Attributes:
        index: its place in the table, 0 to 255.
        gid: as sysfs writes it: eight groups of four hex digits.
        kind: `IB/RoCE v1` or `RoCE v2`.
        netdev: the interface it belongs to; empty if the kernel did not say.
        ipv4: the IPv4 address it stands for; empty: it stands for an IPv6 one.
    """

    index: int
    gid: str
    kind: str
    netdev: str = ""
    ipv4: str = ""

    @property
    def is_v2(self) -> bool:
        """Whether it is a RoCE v2 entry."""
        return self.kind == "RoCE v2"

    @property
    def is_zeroconf(self) -> bool:
        """Whether it stands for an address of 169.254.0.0/16."""
        return self.ipv4.startswith("169.254.")


@frozen
class RdmaPort:
    """A port of an RDMA device.

    Attributes:
        device: `rocep1s0f0`.
        number: 1 on a ConnectX-7.
        state: `ACTIVE`, `DOWN`, …, as sysfs says it behind the number.
        physical: `LinkUp`, `Disabled`, `Polling`, ….
        link_layer: `Ethernet` or `InfiniBand`.
        rate_gbps: what the link runs at, Gb/s.
        gids: the filled entries of its GID table, by index.
    """

    device: str
    number: int
    state: str = ""
    physical: str = ""
    link_layer: str = ""
    rate_gbps: float | None = None
    gids: tuple[Gid, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether its state is ACTIVE."""
        return self.state == "ACTIVE"

    @property
    def v2_gid(self) -> Gid | None:
        """The first RoCE v2 entry with an IPv4 address that is no zeroconf one; else the first with any."""
        found = [gid for gid in self.gids if gid.is_v2 and gid.ipv4]
        return next((gid for gid in found if not gid.is_zeroconf), found[0] if found else None)


@frozen
class Function:
    """One PCI function of a ConnectX-7, with its interface and RDMA device.

    Attributes:
        bdf: `0000:01:00.0`; empty for what is no PCI function.
        netdev: its interface; empty if it has none (now).
        rdma: its RDMA port; None if it has no RDMA device (now).
        port: phys_port_name: `p0`; with several chips `p0@` and a chip's first BDF; empty if there is none.
        index: ifindex.
        mac: hardware address.
        driver: kernel driver: `mlx5_core`; empty if none is bound.
        driver_version: what the module says of its version; an in-tree driver says none.
        out_of_tree: whether the driver is no part of the kernel (MLNX_OFED, DOCA); None: not known.
        firmware: firmware version: `28.45.4028`.
        carrier: whether its link has a carrier; None: the interface is administratively down, or gone.
        operstate: as the kernel says: `up`, `down`, `dormant`.
        mtu: the interface's MTU in bytes.
        speed_mbps: link speed of the interface, Mb/s.
        pcie_gts: the speed its PCIe link runs at, GT/s.
        pcie_width: how many lanes it runs over.
        addresses: its IPv4 addresses with prefix length: `192.168.100.10/24`.
        owner: who configures the interface.
        arp_ignore: the value in force, the larger of conf/all and its own; None: not asked for, or not known.
        arp_announce: likewise.
    """

    bdf: str
    netdev: str = ""
    rdma: RdmaPort | None = None
    port: str = ""
    index: int | None = None
    mac: str = ""
    driver: str = ""
    driver_version: str = ""
    out_of_tree: bool | None = None
    firmware: str = ""
    carrier: bool | None = None
    operstate: str = ""
    mtu: int | None = None
    speed_mbps: int | None = None
    pcie_gts: float | None = None
    pcie_width: int | None = None
    addresses: tuple[str, ...] = ()
    owner: Owner = field(default_factory=lambda: Owner(kind=OwnerKind.NOBODY))
    arp_ignore: int | None = None
    arp_announce: int | None = None

    @property
    def name(self) -> str:
        """What people call it: its interface, else its RDMA device, else its PCI address."""
        return self.netdev or (self.rdma.device if self.rdma else "") or self.bdf

    @property
    def is_up(self) -> bool:
        """Whether its interface has a carrier and, if it has an RDMA device, that is active."""
        return self.carrier is True and (self.rdma is None or self.rdma.is_active)


@frozen
class Port:
    """A QSFP port and the functions that lead to it.

    Attributes:
        name: phys_port_name; functions without one are a port each, named by their BDF.
        functions: its twins, by BDF; two on a Spark.
    """

    name: str
    functions: tuple[Function, ...]

    @property
    def is_cabled(self) -> bool:
        """Whether any of its functions has a carrier: both see the same cable."""
        return any(function.carrier for function in self.functions)


@frozen
class Fabric:
    """Everything that was found, at one moment.

    Attributes:
        presence: whether there are functions, and why not.
        evidence: what says so: paths and values, for people.
        functions: of ConnectX-7 chips, by BDF.
        others: RDMA devices that are no ConnectX-7's (Soft-RoCE, another NIC): shown, and held where that
            is asked for, but nothing is expected of them.
    """

    presence: Presence
    evidence: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    others: tuple[Function, ...] = ()

    @property
    def ports(self) -> tuple[Port, ...]:
        """The ports by name, each with its functions."""
        found: dict[str, list[Function]] = {}
        for function in self.functions:
            found.setdefault(function.port or function.bdf, []).append(function)
        return tuple(Port(name=name, functions=tuple(found[name])) for name in sorted(found))

    @property
    def everything(self) -> tuple[Function, ...]:
        """The ConnectX-7 functions, then the others."""
        return self.functions + self.others

    def twin_of(self, function: Function) -> Function | None:
        """The other function of the same port; None if it has none."""
        others = [
            one
            for one in self.functions
            if function.port and one.port == function.port and one.bdf != function.bdf
        ]
        return others[0] if others else None
