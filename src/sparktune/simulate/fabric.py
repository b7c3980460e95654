"""Network interfaces and RDMA devices of a simulated machine; and cables that are plugged and pulled.

A ConnectX-7 is one chip with two ports and four functions; the two functions of a port are twins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparktune.errors import UsageError
from sparktune.simulate.pci import pci_path

if TYPE_CHECKING:
    from sparktune.simulate.writer import TreeWriter

GIDS = 16
"""How many entries the GID tables have here; a ConnectX-7 has more, all empty."""
NO_GID = ":".join(["0000"] * 8)

_COUNTERS = (
    "excessive_buffer_overrun_errors", "link_downed", "link_error_recovery", "local_link_integrity_errors",
    "multicast_rcv_packets", "multicast_xmit_packets", "port_rcv_constraint_errors", "port_rcv_data",
    "port_rcv_errors", "port_rcv_packets", "port_xmit_constraint_errors", "port_xmit_data",
    "port_xmit_discards", "port_xmit_packets", "port_xmit_wait", "symbol_error",
    "unicast_rcv_packets", "unicast_xmit_packets", "VL15_dropped",
)  # fmt: skip
_HARDWARE_COUNTERS = (
    "duplicate_request", "implied_nak_seq_err", "lifespan", "local_ack_timeout_err", "np_cnp_sent",
    "np_ecn_marked_roce_packets", "out_of_buffer", "out_of_sequence", "packet_seq_err",
    "req_cqe_error", "resp_cqe_error", "rnr_nak_retry_err", "roce_adp_retrans", "rp_cnp_handled",
    "rx_icrc_encapsulated", "rx_read_requests", "rx_write_requests",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface, and the RDMA device beside it if there is one.

    Attributes:
        name: `enp1s0f0np0`.
        index: ifindex.
        address: the PCI function it belongs to; empty for the loopback.
        port: phys_port_name; empty if the driver has none.
        mac: its hardware address.
        up: whether it has a link.
        speed_mbps: what the link runs at.
        rdma: name of the RDMA device; empty if there is none.
        ipv4: the address its GID table shows; empty: link-local entries only.
    """

    name: str
    index: int
    address: str = ""
    port: str = ""
    mac: str = "00:00:00:00:00:00"
    up: bool = True
    speed_mbps: int = 200_000
    rdma: str = ""
    ipv4: str = ""


def build_interface(writer: TreeWriter, interface: Interface) -> None:
    """Make an interface below its PCI device, its RDMA device, and their class links."""
    device = pci_path(interface.address) if interface.address else "/sys/devices/virtual"
    directory = f"{device}/net/{interface.name}"
    writer.write(
        directory,
        {
            "address": interface.mac,
            "addr_len": 6,
            "carrier_changes": int(interface.up),
            "flags": "0x1003",
            "ifindex": interface.index,
            "iflink": interface.index,
            "mtu": 1500 if interface.address else 65536,
            "tx_queue_len": 1000,
            "type": 1 if interface.address else 772,
            "uevent": f"INTERFACE={interface.name}\nIFINDEX={interface.index}",
            **_link_files(interface, up=interface.up),
        },
    )
    if interface.port:  # without one the kernel answers EOPNOTSUPP
        writer.write(directory, {"phys_port_name": interface.port})
    writer.write(f"{directory}/statistics", {"rx_bytes": 0, "tx_bytes": 0, "rx_errors": 0, "tx_errors": 0})
    writer.link(f"{directory}/subsystem", "/sys/class/net")
    writer.link(f"/sys/class/net/{interface.name}", directory)
    if interface.address:
        writer.link(f"{directory}/device", device)
    if interface.rdma:
        _build_rdma(writer, interface, device)


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
    changes = int(writer.read(f"{directory}/carrier_changes")) + 1
    if interface.rdma:
        port = f"{writer.resolve(f'/sys/class/infiniband/{interface.rdma}')}/ports/1"
        writer.write(port, _port_files(up=up))
    writer.write(directory, {**_link_files(interface, up=up), "carrier_changes": changes})


def _link_files(interface: Interface, *, up: bool) -> dict[str, str | int]:
    return {
        "carrier": int(up),
        "operstate": ("up" if up else "down") if interface.address else "unknown",
        "speed": interface.speed_mbps if up else -1,
        "duplex": "full" if up else "unknown",
    }


def _port_files(*, up: bool) -> dict[str, str]:
    return {
        "state": "4: ACTIVE" if up else "1: DOWN",
        "phys_state": "5: LinkUp" if up else "3: Disabled",
        "rate": "200 Gb/sec (4X HDR)" if up else "40 Gb/sec (4X QDR)",
    }


def _build_rdma(writer: TreeWriter, interface: Interface, device: str) -> None:
    directory = f"{device}/infiniband/{interface.rdma}"
    writer.write(
        directory,
        {
            "node_type": "1: CA",
            "node_desc": f"simulated {interface.rdma}",
            "node_guid": _guid(interface.mac),
            "sys_image_guid": "029f:8f00:0300:0000",  # one chip, so the same for all four functions
            "fw_ver": "28.45.4028",
            "hca_type": "MT4129",
            "hw_rev": "0x0",
        },
    )
    port = f"{directory}/ports/1"
    writer.write(
        port, {"link_layer": "Ethernet", "lid": "0x0", "sm_lid": "0x0", **_port_files(up=interface.up)}
    )
    writer.write(f"{port}/counters", dict.fromkeys(_COUNTERS, 0))
    writer.write(f"{port}/hw_counters", dict.fromkeys(_HARDWARE_COUNTERS, 0))
    _build_gids(writer, interface, port)
    writer.link(f"{directory}/device", device)
    writer.link(f"{directory}/subsystem", "/sys/class/infiniband")
    writer.link(f"/sys/class/infiniband/{interface.rdma}", directory)


def _build_gids(writer: TreeWriter, interface: Interface, port: str) -> None:
    """Fill the GID table: each address once for RoCE v1 and once for v2, link-local first.

    The kernel answers EINVAL for type and interface of an empty entry; a plain file can only be empty.
    """
    addresses = [_link_local_gid(interface.mac)]
    if interface.ipv4:
        addresses.append(_ipv4_gid(interface.ipv4))
    gids = [address for address in addresses for _ in range(2)]
    empty = GIDS - len(gids)
    types = ["IB/RoCE v1", "RoCE v2"] * len(addresses) + [b""] * empty
    netdevs = [interface.name] * len(gids) + [b""] * empty
    writer.write(f"{port}/gids", {str(index): gid for index, gid in enumerate(gids + [NO_GID] * empty)})
    writer.write(f"{port}/gid_attrs/types", {str(index): kind for index, kind in enumerate(types)})
    writer.write(f"{port}/gid_attrs/ndevs", {str(index): name for index, name in enumerate(netdevs)})


def _guid(mac: str) -> str:
    """EUI-64 of a hardware address the way RDMA writes it: `009f:8fff:fe00:0001`."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    octets = [octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]
    return ":".join(f"{high:02x}{low:02x}" for high, low in zip(octets[::2], octets[1::2], strict=True))


def _link_local_gid(mac: str) -> str:
    return f"fe80:0000:0000:0000:{_guid(mac)}"


def _ipv4_gid(address: str) -> str:
    first, second, third, fourth = (int(octet) for octet in address.split("."))
    return f"0000:0000:0000:0000:0000:ffff:{first:02x}{second:02x}:{third:02x}{fourth:02x}"
