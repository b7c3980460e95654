"""Network interfaces and RDMA devices of a simulated machine; and cables that are plugged and pulled.

A ConnectX-7 is one chip with two ports and four functions; the two functions of a port are twins. What only
netlink knows on a real machine is in the folder `netlink` of an interface, which no real sysfs has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.errors import UsageError
from sparktune.frozen import frozen
from sparktune.simulate.pci import pci_path
from sparktune.simulate.rdma import build_rdma, port_files

if TYPE_CHECKING:
    from sparktune.simulate.writer import Content, TreeWriter

MODULE = "mlx5_core"
_CONF = "/proc/sys/net/ipv4/conf"
_STATISTICS = ("rx_bytes", "rx_dropped", "rx_errors", "rx_packets", "tx_bytes", "tx_errors", "tx_packets")
_ETHTOOL = {
    "pause_autoneg": 0, "pause_rx": 1, "pause_tx": 1, "rx_ring": 1024, "rx_ring_max": 8192,
    "tx_ring": 1024, "tx_ring_max": 8192, "adaptive_rx": 1, "adaptive_tx": 1,
}  # fmt: skip
"""Rings as in drivers/net/ethernet/mellanox/mlx5/core/en.h (2^10, at most 2^13)."""
_DCB = {"pfc": "none", "trust": "pcp"}
_COUNTED = (
    "rx_discards_phy", "tx_discards_phy", "tx_pause_storm_warning_events",
    "tx_pause_storm_error_events", "rx_out_of_buffer", "rx_symbol_err_phy", "rx_crc_errors_phy",
    *(f"{way}_prio{priority}_pause" for way in ("rx", "tx") for priority in range(8)),
    *(f"{way}_{name}" for way in ("rx", "tx") for name in ("pause_ctrl_phy", "global_pause")),
)  # fmt: skip


@frozen
class Interface:
    """A network interface, and the RDMA device beside it if there is one.

    Attributes:
        name: `enp1s0f0np0`.
        index: ifindex.
        address: the PCI function it belongs to; empty for the loopback.
        port: phys_port_name; empty if the driver has none.
        mac: its hardware address.
        up: whether it has a link.
        carrier_changes: how often its link went up or down until now; None: as often as it takes.
        speed_mbps: what the link runs at.
        mtu: in bytes.
        rdma: name of the RDMA device; empty if there is none.
        firmware: of that device.
        ipv4: its address, in the GID table as well; empty: link-local entries only.
        prefix: of that address.
        gids: entries of the GID table between the link-local one and that of the address.
        dcb: whether its driver has PFC and trust.
        unreadable: counters below `ports/1` of the RDMA device that answer every read with an error.
    """

    name: str
    index: int
    address: str = ""
    port: str = ""
    mac: str = "00:00:00:00:00:00"
    up: bool = True
    carrier_changes: int | None = None
    speed_mbps: int = 200_000
    mtu: int = 1500
    rdma: str = ""
    firmware: str = "28.45.4028"
    ipv4: str = ""
    prefix: int = 24
    gids: tuple[str, ...] = ()
    dcb: bool = True
    unreadable: tuple[str, ...] = ()


def build_interface(writer: TreeWriter, interface: Interface) -> None:
    """Make an interface below its PCI device, its RDMA device, and their class links."""
    device = pci_path(interface.address) if interface.address else "/sys/devices/virtual"
    directory = f"{device}/net/{interface.name}"
    changes = int(interface.up) if interface.carrier_changes is None else interface.carrier_changes
    writer.write(
        directory,
        {
            "address": interface.mac,
            "addr_len": 6,
            "carrier_changes": changes,
            "carrier_up_count": (changes + 1) // 2 if interface.up else changes // 2,
            "carrier_down_count": changes // 2 if interface.up else (changes + 1) // 2,
            "flags": "0x1003",
            "ifindex": interface.index,
            "iflink": interface.index,
            "mtu": interface.mtu,
            "tx_queue_len": 1000,
            "type": 1 if interface.address else 772,
            "uevent": f"INTERFACE={interface.name}\nIFINDEX={interface.index}",
            **_link_files(interface, up=interface.up),
        },
    )
    if interface.port:  # without one the kernel answers EOPNOTSUPP
        writer.write(directory, {"phys_port_name": interface.port})
    writer.write(f"{directory}/statistics", dict.fromkeys(_STATISTICS, 0))
    writer.write(f"{_CONF}/{interface.name}", {"arp_ignore": 0, "arp_announce": 0})
    writer.link(f"{directory}/subsystem", "/sys/class/net")
    writer.link(f"/sys/class/net/{interface.name}", directory)
    if interface.address:
        writer.link(f"{directory}/device", device)
    if interface.ipv4:
        writer.write(f"{directory}/netlink/addr", {"ipv4": f"{interface.ipv4}/{interface.prefix}"})
    if interface.rdma:
        _build_netlink(writer, interface, f"{directory}/netlink")
        build_rdma(writer, interface, device)


def build_arp(writer: TreeWriter, *, is_dgx_os: bool) -> None:
    """Make the ARP settings for all interfaces; DGX OS has ones of its own (nvidia-kernel-defaults)."""
    for name in ("all", "default"):
        writer.write(f"{_CONF}/{name}", {"arp_ignore": int(is_dgx_os), "arp_announce": 2 * int(is_dgx_os)})


def set_carrier(writer: TreeWriter, interfaces: tuple[Interface, ...], netdev: str, *, up: bool) -> None:
    """Give an interface a link or take it away; its RDMA port follows. Its twin is another interface.

    Raises:
        UsageError: there is no such interface.
    """
    known = {interface.name: interface for interface in interfaces}
    if netdev not in known or not writer.exists(f"/sys/class/net/{netdev}"):
        raise UsageError(
            f"the simulated machine has no interface {netdev[:40]!r}",
            hint=f"it has {', '.join(writer.names('/sys/class/net'))}",
        )
    interface = known[netdev]
    directory = writer.resolve(f"/sys/class/net/{netdev}")
    if interface.rdma:
        port = f"{writer.resolve(f'/sys/class/infiniband/{interface.rdma}')}/ports/1"
        writer.write(port, port_files(up=up))
    counted = ("carrier_changes", "carrier_up_count" if up else "carrier_down_count")
    changes: dict[str, Content] = {name: int(writer.read(f"{directory}/{name}")) + 1 for name in counted}
    writer.write(directory, {**_link_files(interface, up=up), **changes})


def _link_files(interface: Interface, *, up: bool) -> dict[str, Content]:
    return {
        "carrier": int(up),
        "operstate": ("up" if up else "down") if interface.address else "unknown",
        "speed": interface.speed_mbps if up else -1,
        "duplex": "full" if up else "unknown",
    }


def _build_netlink(writer: TreeWriter, interface: Interface, directory: str) -> None:
    """Make what ethtool and DCB would answer; without a folder they answer EOPNOTSUPP."""
    writer.write(f"{directory}/ethtool", _ETHTOOL)
    writer.write(f"{directory}/ethtool/statistics", dict.fromkeys(_COUNTED, 0))
    if interface.dcb:
        writer.write(f"{directory}/dcb", _DCB)
