"""What each check of the fabric is: its words, and which function judges it. Declares nothing by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparktune.fabric import checks, twins
from sparktune.fabric.naming import shell_word
from sparktune.frozen import frozen
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sparktune.fabric.model import Fabric, Function, Port
    from sparktune.model import Reading, Value
    from sparktune.settings import Settings

PCIE_GTS = "32.0"
PCIE_LANES = 4
PCI = "/sys/bus/pci/devices"

_NET = "/sys/class/net"
_INFINIBAND = "/sys/class/infiniband"
_CONF = "/proc/sys/net/ipv4/conf"
_SYSFS_RDMA = "kernel: Documentation/ABI/stable/sysfs-class-infiniband"
_SYSCTL = "kernel: Documentation/networking/ip-sysctl.rst"
_SUBNETS = "NVIDIA/dgx-spark-playbooks 0db7c14: nvidia/multi-sparks-through-switch/README.md"
_BANDWIDTH = "users' measurements on pairs of Sparks, see docs/fabric-checks.md"


@frozen
class Check:
    """What makes one check of a function, a port, or all of them.

    Attributes:
        name: the last part of its id.
        device: the part before it.
        judge: from the fabric to a reading.
        wanted: what must be read.
        location: where a person can see it.
        why: what goes wrong otherwise.
        source: where that comes from.
        do: what to do about it.
        unit: of the value.
        key: the configuration key that decides what is wanted.
    """

    name: str
    device: str
    judge: Callable[[Fabric], Reading]
    wanted: Value
    location: str
    why: str
    source: str
    do: str
    unit: str = ""
    key: str = ""


def of_function(function: Function, settings: Settings, *, is_spark: bool) -> Iterator[Check]:
    """The checks of one function; those of its PCIe link only on a machine whose wiring is known."""
    yield from _of_rdma(function, settings)
    if is_spark:
        yield from _of_pcie(function)
    if function.netdev:
        yield from _of_arp(function)


def _of_rdma(function: Function, settings: Settings) -> Iterator[Check]:
    device = function.rdma.device if function.rdma is not None else function.name
    port = f"{_INFINIBAND}/{device}/ports/{function.rdma.number if function.rdma is not None else 1}"
    name = shell_word(function.netdev or function.bdf)
    yield Check(
        name="port_state",
        device=device,
        judge=partial(checks.port_state, bdf=function.bdf),
        wanted=checks.ACTIVE,
        location=f"{port}/state",
        why="Over a port that is not active no RDMA traffic runs; the twin carries half at most.",
        source=f"{_SYSFS_RDMA}, ports/<port-num>/state",
        do=f"sudo ip link set dev {name} up; if that does not help: is mlx5_ib loaded (modprobe mlx5_ib), "
        "is the cable in at both ends, and what does `journalctl -k -g mlx5` say",
    )
    if function.rdma is None:
        return
    yield Check(
        name="link_layer",
        device=device,
        judge=partial(checks.link_layer, bdf=function.bdf),
        wanted=checks.ETHERNET,
        location=f"{port}/link_layer",
        why="RoCE is RDMA over Ethernet; a port in InfiniBand mode has no interface and no RoCE GIDs.",
        source=f"{_SYSFS_RDMA}, ports/<port-num>/link_layer",
        do=f"sudo mlxconfig -d {shell_word(function.bdf)} query LINK_TYPE_P1 (of NVIDIA's MFT) shows what "
        "the firmware is set to; 2 is Ethernet",
    )
    yield Check(
        name="link_rate",
        device=device,
        judge=partial(checks.link_rate, bdf=function.bdf),
        wanted=settings.expect.link_rate_gbps,
        location=f"{port}/rate",
        unit="Gb/s",
        why="A link that negotiated less than both ends and the cable can do stays that slow.",
        source=f"{_SYSFS_RDMA}, ports/<port-num>/rate",
        do=f"`sudo ethtool {name}` at both ends; re-seat the cable or try another; if this rate is meant, "
        "say so: expect.link_rate_gbps",
        key="expect.link_rate_gbps",
    )
    yield Check(
        name="active_mtu",
        device=device,
        judge=partial(checks.active_mtu, bdf=function.bdf),
        wanted=checks.AT_LEAST,
        location=f"{port} (derived from the interface's MTU; ibv_devinfo shows it)",
        unit="B",
        why="RDMA takes the largest of 256, 512, 1024, 2048 and 4096 bytes that fits; below 1024 it crawls.",
        source="kernel: include/rdma/ib_addr.h, iboe_get_mtu",
        do=f"give {name} an MTU of 1500 or more; 4200 and more lets RDMA use 4096, on both ends alike",
    )
    yield Check(
        name="gid",
        device=device,
        judge=partial(checks.gid, bdf=function.bdf),
        wanted=checks.V2_GID,
        location=f"{port}/gids and {port}/gid_attrs",
        why="RoCE v2 over IPv4 needs a GID of its own, which the kernel makes of an IPv4 address.",
        source=f"{_SYSFS_RDMA}, ports/<port-num>/gids, gid_attrs",
        do=f"give {name} an IPv4 address, for good in netplan or NetworkManager",
    )


def _of_pcie(function: Function) -> Iterator[Check]:
    path = f"{PCI}/{function.bdf}"
    why = "Each function of a GB10's ConnectX-7 has four lanes of PCIe 5; with less it cannot carry its half."
    source = (
        "kernel: drivers/pci/pci-sysfs.c; the values are those of healthy Sparks, see docs/fabric-checks.md"
    )
    do = (
        f"sudo lspci -vvs {shell_word(function.bdf)} shows LnkCap and LnkSta; shut down, unplug for a "
        "minute, start again; if it stays, look for a firmware (BIOS) update of the machine"
    )
    yield Check(
        name="pcie_speed",
        device=function.name,
        judge=partial(checks.pcie_speed, bdf=function.bdf),
        wanted=PCIE_GTS,
        location=f"{path}/current_link_speed",
        unit="GT/s",
        why=why,
        source=source,
        do=do,
    )
    yield Check(
        name="pcie_width",
        device=function.name,
        judge=partial(checks.pcie_width, bdf=function.bdf),
        wanted=PCIE_LANES,
        location=f"{path}/current_link_width",
        unit="lanes",
        why=why,
        source=source,
        do=do,
    )


def _of_arp(function: Function) -> Iterator[Check]:
    why = (
        "Twins in one subnet answer ARP for each other by default, so traffic for one arrives at the other, "
        "where RDMA does not expect it."
    )
    word = shell_word(function.netdev)
    for name, judge, wanted, number in (
        ("arp_ignore", twins.arp_ignore, twins.OWN_ADDRESSES, 1),
        ("arp_announce", twins.arp_announce, twins.ANNOUNCE_BEST, twins.ANNOUNCE_BEST),
    ):
        yield Check(
            name=name,
            device=function.name,
            judge=partial(judge, bdf=function.bdf),
            wanted=wanted,
            location=f"{_CONF}/{function.netdev}/{name}, {_CONF}/all/{name}",
            why=why,
            source=f"{_SYSCTL}, {name}: the larger of conf/all and conf/interface counts",
            do=f"give the twins a subnet each; or: echo {number} | sudo tee {_CONF}/{word}/{name}, for good "
            "in /etc/sysctl.d",
        )


def of_port(port: Port) -> Iterator[Check]:
    """The checks of the twins of one port."""
    names = [shell_word(one.netdev or one.bdf) for one in port.functions]
    both = " and ".join(names)
    yield Check(
        name="twins_up",
        device=port.name,
        judge=partial(twins.up, name=port.name),
        wanted=twins.BOTH_UP,
        location=_files(port, "carrier"),
        why="Each twin has a PCIe link of its own and carries half: one alone gets 112 of 190 Gb/s.",
        source=_BANDWIDTH,
        do="; ".join(f"sudo ip link set dev {name} up" for name in names)
        + "; one that stays down or is missing: `journalctl -k -g mlx5`, then a cold start",
    )
    yield Check(
        name="twins_mtu",
        device=port.name,
        judge=partial(twins.mtu, name=port.name),
        wanted=twins.EQUAL,
        location=_files(port, "mtu"),
        why="One twin left at 1500 slows both: 17.9 instead of 23.9 GB/s all-gather.",
        source=_BANDWIDTH,
        do=_mtu_advice(port, both),
    )
    yield Check(
        name="twins_subnets",
        device=port.name,
        judge=partial(twins.subnets, name=port.name),
        wanted=twins.APART,
        location=f"{_files(port, '')} (ip -4 address show dev {names[0]})",
        why="In one subnet the kernel sends everything over one of the two, whichever address is meant.",
        source=_SUBNETS,
        do=f"give {both} addresses in different subnets, such as 192.168.100.1/24 and 192.168.101.1/24, for "
        "good in netplan or NetworkManager, on both machines",
    )
    yield Check(
        name="zeroconf",
        device=port.name,
        judge=partial(twins.zeroconf, name=port.name),
        wanted=twins.NOT_ALONE,
        location=f"{_files(port, '')} (ip -4 address show dev {names[0]})",
        why="A 169.254 address on one twin alone makes GID tables differ; NCCL fails with Invalid argument.",
        source="users' reports of ibv_modify_qp failing, see docs/fabric-checks.md",
        do=f"give {both} an address each, or none: `nmcli connection modify NAME ipv4.method disabled` for "
        "one that needs none, `link-local: []` in netplan",
    )


def _files(port: Port, name: str) -> str:
    """The files of that name of all twins' interfaces."""
    places = [f"{_NET}/{plain(one.netdev or one.bdf)}" for one in port.functions]
    return ", ".join(f"{place}/{name}" if name else place for place in places)


def _mtu_advice(port: Port, both: str) -> str:
    most = max((one.mtu for one in port.functions if one.mtu is not None), default=0)
    changes = [
        f"{shell_word(one.name)}: {one.owner.change_to(most)}"
        for one in port.functions
        if one.owner.change and one.mtu != most
    ]
    same = f"set the same MTU on {both} and on their peers"
    return f"{same}: {'; '.join(changes)}" if changes else same


def firmware() -> Check:
    """The check of all functions together."""
    return Check(
        name="firmware",
        device="connectx7",
        judge=twins.firmware,
        wanted=twins.EQUAL,
        location=f"{_INFINIBAND}/*/fw_ver",
        why="The functions are one chip; they differ while an update waits for its reset, or half failed.",
        source=f"{_SYSFS_RDMA}, fw_ver",
        do="shut the machine down, unplug it for a minute, start it; if they still differ, repeat the "
        "firmware update (fwupdmgr, or mlxfwmanager)",
    )
