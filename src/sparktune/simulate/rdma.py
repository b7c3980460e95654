"""The RDMA device beside a simulated interface: its port, its counters and its GID table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.simulate.fabric import Interface
    from sparktune.simulate.writer import TreeWriter

GIDS = 16
"""How many entries the GID tables have here; a ConnectX-7 has 256, the rest of them empty."""
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


def build_rdma(writer: TreeWriter, interface: Interface, device: str) -> None:
    """Make the RDMA device of an interface below its PCI device, and its class link."""
    directory = f"{device}/infiniband/{interface.rdma}"
    writer.write(
        directory,
        {
            "node_type": "1: CA",
            "node_desc": f"simulated {interface.rdma}",
            "node_guid": _guid(interface.mac),
            "sys_image_guid": "029f:8f00:0300:0000",  # one chip, so the same for all four functions
            "fw_ver": interface.firmware,
            "hca_type": "MT4129",
            "hw_rev": "0x0",
        },
    )
    port = f"{directory}/ports/1"
    writer.write(
        port, {"link_layer": "Ethernet", "lid": "0x0", "sm_lid": "0x0", **port_files(up=interface.up)}
    )
    _build_counters(writer, interface, port)
    _build_gids(writer, interface, port)
    writer.write(f"{directory}/netlink", {"qps": b""})
    writer.link(f"{directory}/device", device)
    writer.link(f"{directory}/subsystem", "/sys/class/infiniband")
    writer.link(f"/sys/class/infiniband/{interface.rdma}", directory)


def port_files(*, up: bool) -> dict[str, str]:
    """What a port says of its link."""
    return {
        "state": "4: ACTIVE" if up else "1: DOWN",
        "phys_state": "5: LinkUp" if up else "3: Disabled",
        "rate": "200 Gb/sec (4X HDR)" if up else "40 Gb/sec (4X QDR)",
    }


def _build_counters(writer: TreeWriter, interface: Interface, port: str) -> None:
    for kind, names in (("counters", _COUNTERS), ("hw_counters", _HARDWARE_COUNTERS)):
        good = [name for name in names if f"{kind}/{name}" not in interface.unreadable]
        writer.write(f"{port}/{kind}", dict.fromkeys(good, 0))
    for name in interface.unreadable:  # read(2) of a directory answers EISDIR, to root as well
        writer.make_directory(f"{port}/{name}")


def _build_gids(writer: TreeWriter, interface: Interface, port: str) -> None:
    """Fill the GID table: each address once for RoCE v1 and once for v2, link-local first.

    The kernel answers EINVAL for type and interface of an empty entry; a plain file can only be empty.
    """
    addresses = [_link_local_gid(interface.mac), *interface.gids]
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
