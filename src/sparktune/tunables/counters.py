"""The checks of the `roce` area on counters of errors, judged by what they grow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sparktune.fabric.naming import listed, shell_word
from sparktune.frozen import frozen
from sparktune.kernel.counters import UNREADABLE, CounterCheck, read_number
from sparktune.kernel.flaps import LinkFlaps
from sparktune.kernel.identity import identify_directory
from sparktune.kernel.queuepairs import QueuePairs
from sparktune.kernel.statistics import DriverStatistics
from sparktune.kernel.traffic import TOGETHER, TwinTraffic
from sparktune.model import Note, Tunable
from sparktune.tunables.area import Discovery
from sparktune.tunables.fabric import AREA, is_selected, touching
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.fabric.model import Fabric, Function, Port
    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.settings import Settings
    from sparktune.tunables.area import View

_SHOWN = 4
_INFINIBAND = "/sys/class/infiniband"
_NET = "/sys/class/net"
_HARDWARE = "kernel: Documentation/ABI/stable/sysfs-class-infiniband, ports/<port-num>/hw_counters"
_CARRIER = "kernel: Documentation/ABI/testing/sysfs-class-net, carrier_down_count"
_DRIVER = "kernel: Documentation/networking/device_drivers/ethernet/mellanox/mlx5/counters.rst"


@frozen
class _Counter:
    """What one counter means.

    Attributes:
        name: as the kernel calls it.
        why: what its growth means.
        do: what to look at then.
    """

    name: str
    why: str
    do: str


_LOSS = (
    "packets get lost: look at rx_discards_phy on both machines, at the MTU of both ends, and at the cable "
    "(sudo ethtool -S {name} | grep -e symbol -e crc -e discards)"
)
_OF_RDMA = (
    _Counter(
        name="out_of_sequence",
        why="Packets arrived out of order: one before them was lost, and RDMA sends all after it again.",
        do=_LOSS,
    ),
    _Counter(
        name="packet_seq_err",
        why="The peer asked for packets again, because one from here was lost on the way.",
        do=_LOSS,
    ),
    _Counter(
        name="local_ack_timeout_err",
        why="The peer did not answer in time; after some of these a program loses its connection.",
        do="is the peer up, its link too, and do both ends have the same MTU: ping -M do -s 8972 PEER",
    ),
)
_FLAPS = _Counter(
    name="link_flaps",
    why="A link that goes down and comes back breaks every RDMA connection over it, and may move its GIDs.",
    do="re-seat the cable at both ends, or try another; is the peer rebooting? `journalctl -k -g {name}`",
)
_OF_DRIVER = (
    _Counter(
        name="rx_discards_phy",
        why="The card dropped packets because its buffers were full: this machine takes them too slowly.",
        do="compare roce.*.pcie_speed and pcie_width; more receive buffers: sudo ethtool -g {name}",
    ),
    _Counter(
        name="tx_pause_storm_warning_events",
        why="The card told its peer for a long time to pause: it stalls, and so does everything behind it.",
        do="what keeps this machine from taking packets? on a direct cable pause frames are not needed: "
        "sudo ethtool -A {name} rx off tx off, on both ends",
    ),
    _Counter(
        name="tx_pause_storm_error_events",
        why="The card stalled so long that it gave up pausing, and dropped packets from then on.",
        do="what keeps this machine from taking packets? on a direct cable pause frames are not needed: "
        "sudo ethtool -A {name} rx off tx off, on both ends",
    ),
)


def declare(host: Host, settings: Settings, fabric: Fabric) -> Discovery:
    """The counters of every selected function."""
    chosen = [one for one in fabric.functions if is_selected(one, settings.roce.devices)]
    tunables = (
        *(tunable for one in chosen for tunable in _of(host.root, one)),
        *(tunable for port in fabric.ports for tunable in _of_port(host.root, port, chosen)),
    )
    return Discovery(tunables=tunables, absent="" if tunables else "no ConnectX-7 function here")


def _of(root: Root, function: Function) -> Iterator[Tunable]:
    port = ""
    if function.rdma is not None:
        device = function.rdma.device
        port = f"{_INFINIBAND}/{device}/ports/{function.rdma.number}"
        identity = identify_directory(root, f"{_INFINIBAND}/{device}")
        for counter in _OF_RDMA:
            place = f"{port}/hw_counters/{counter.name}"
            check = CounterCheck(partial(read_number, root, place), place, identity)
            yield _tunable(function, device, counter, check, _HARDWARE)
    if function.netdev:
        gate = f"{port}/counters/port_xmit_data" if port else ""
        names = [counter.name for counter in _OF_DRIVER]
        statistics = DriverStatistics(root, function.netdev, names, gate)
        identity = identify_directory(root, f"{_NET}/{function.netdev}")
        flaps = LinkFlaps(root, function.netdev, identity, carrier=function.carrier)
        yield _tunable(function, function.netdev, _FLAPS, flaps, _CARRIER)
        for counter in _OF_DRIVER:
            place = f"{_NET}/{function.netdev} (ethtool -S: {counter.name})"
            check = CounterCheck(partial(statistics.get, counter.name), place, identity)
            yield _tunable(function, function.netdev, counter, check, _DRIVER)


def _tunable(
    function: Function, device: str, counter: _Counter, check: CounterCheck | LinkFlaps, source: str
) -> Tunable:
    name = shell_word(function.netdev or function.bdf)
    return Tunable(
        id=f"{AREA}.{plain(device)}.{counter.name}",
        area=AREA,
        device=plain(device),
        attribute=check,
        wanted=0,
        why=counter.why,
        source=source,
        do=counter.do.format(name=name),
        interfaces=touching((function,)),
    )


def _of_port(root: Root, port: Port, chosen: Sequence[Function]) -> Iterator[Tunable]:
    """Whether both twins move data, where both have an RDMA device and are selected."""
    mine = [one for one in port.functions if one in chosen]
    ports = [one.rdma for one in mine if one.rdma is not None]
    if len(ports) < 2:  # noqa: PLR2004 - twins are two
        return
    names = " and ".join(shell_word(one.device) for one in ports)
    yield Tunable(
        id=f"{AREA}.{plain(port.name)}.twins_traffic",
        area=AREA,
        device=plain(port.name),
        attribute=TwinTraffic(
            root,
            ports,
            identify_directory(root, f"/sys/bus/pci/devices/{mine[0].bdf}"),
            lambda device: QueuePairs(root, device).owners(),
        ),
        wanted=TOGETHER,
        why="A twin can be ACTIVE and move nothing; a program that holds both then runs at half its rate.",
        source="users' reports, see docs/fabric-checks.md; " + _HARDWARE.replace("hw_counters", "counters"),
        do=f"stop the program and start it again; if it stays: ib_write_bw over each of {names} shows which "
        "one is sick, and a cold start of the machine with the cable out mends it",
        interfaces=touching(mine),
    )


def remark(views: Sequence[View]) -> tuple[Note, ...]:
    """Which counters cannot be read, so that nobody takes their silence for a good sign."""
    mute = [
        view.tunable.id.removeprefix(f"{AREA}.")
        for view in views
        if isinstance(view.tunable.attribute, CounterCheck) and view.reading.reason.startswith(UNREADABLE)
    ]
    if not mute:
        return ()
    shown = listed([*mute[:_SHOWN], *([f"{len(mute) - _SHOWN} more"] if len(mute) > _SHOWN else [])])
    says = f"cannot be read, and are not read again until their device comes back: {shown}"
    return (Note(area=AREA, level="info", says=says, do=f"sparktune explain {AREA}.{mute[0]} says why"),)
