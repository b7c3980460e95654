"""The interfaces' part of the `roce` area: MTU, pause frames, rings, coalescing, PFC, trust, traffic class.

All of them are off until the configuration asks: nobody has shown that a cable between two Sparks needs them.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.fabric.naming import shell_word
from sparktune.kernel.dcb import NOT_ANY
from sparktune.kernel.identity import identify_directory
from sparktune.kernel.netattribute import MTU, PRIORITIES, TRUST, TRUST_MAP, open_parameter
from sparktune.kernel.queuepairs import PortTraffic, QueuePairs
from sparktune.kernel.trafficclass import TrafficClass
from sparktune.model import Note, Tunable
from sparktune.tunables.area import Discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.fabric.model import Fabric, Function, Owner
    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.model import Value
    from sparktune.sections import RoceSettings
    from sparktune.settings import Settings

AREA = "roce"

_RDMA = "/sys/class/infiniband"
_SIDES = ("rx", "tx")
_OF_PORT = frozenset({"pause", "pfc_priorities", "trust"})
"""Registers of the port, not of the function (mlx5: PFCC, QPTS); changing PFC toggles the port's link."""

_MTU_WHY = "RDMA packets carry 4096 bytes from an MTU of 4200 on, and 1024 at the usual 1500."
_MTU_SOURCE = "kernel: include/rdma/ib_addr.h, iboe_get_mtu; rtnetlink(7), IFLA_MTU"
_MTU_RISK = (
    "One-sided, it breaks traffic: set it on the other node, on both twins and on a switch between them too. "
    "The interface's queues are made anew when it changes."
)
_PAUSE_WHY = "A receiver whose buffers run full stops its peer; without that it drops, and RoCE sends again."
_PAUSE_SOURCE = (
    "kernel: Documentation/networking/ethtool-netlink.rst, PAUSE_SET; mlx5e_ethtool_set_pauseparam"
)
_PAUSE_RISK = (
    "Stops all traffic of the link, and a node that hangs stops its peer with it. Not together with PFC."
)
_RING_WHY = "Longer rings ride out bursts of TCP traffic while a CPU is busy. RDMA does not go through them."
_RING_SOURCE = "kernel: Documentation/networking/ethtool-netlink.rst, RINGS_SET; mlx5e_ethtool_set_ringparam"
_RING_RISK = "The interface's queues are made anew when it changes; long rings cost memory and cache."
_ADAPTIVE_WHY = (
    "Whether the delay before an interrupt follows the load, for TCP traffic. RDMA polls or has its own."
)
_ADAPTIVE_SOURCE = "kernel: Documentation/networking/ethtool-netlink.rst, COALESCE_SET; net_dim.rst"
_ADAPTIVE_RISK = (
    "Off: a fixed delay, too long for single messages or too short for bulk. On: that delay moves."
)
_PFC_WHY = (
    "Where a switch is in between, PFC stops one priority and not the whole link when buffers run full."
)
_PFC_SOURCE = "kernel: net/dcb/dcbnl.c, ieee_setpfc; mlx5e_dcbnl_ieee_setpfc; IEEE 802.1Qbb"
_PFC_RISK = (
    "The link goes down and up when it changes. Must be set alike on every node and switch. A direct cable "
    "needs none: six nodes reached 196 Gb/s each without it."
)
_TRUST_WHY = (
    "What the NIC takes a packet's priority from: dscp works across subnets and without VLANs, pcp does not."
)
_TRUST_SOURCE = "kernel: net/dcb/dcbnl.c, ieee_setapp; mlx5e_dcbnl_ieee_setapp and _delapp; dcb-app(8)"
_TRUST_RISK = "Traffic changes its queue and, with PFC, whether it is lossless. Must match the switch."
_CLASS_WHY = (
    "Puts this traffic class (DSCP and ECN bits) on all RoCE packets of the port, as a switch may expect."
)
_CLASS_SOURCE = "MLNX_OFED documentation, Quality of Service; mlx5_ib, traffic_class_store"
_CLASS_RISK = "Also changes queue pairs that run. Overrules what programs ask for, NCCL_IB_TC too."


def declare(host: Host, settings: Settings, fabric: Fabric) -> Discovery:
    """What the configuration asks of each selected function of the ConnectX-7."""
    wanted = settings.roce
    tunables: list[Tunable] = []
    notes: list[Note] = []
    for function in fabric.everything:
        if not _is_selected(function, wanted):
            continue
        tunables += _of_function(host.root, function, fabric.twin_of(function), wanted)
        notes += _of_owner(function, wanted)
    return Discovery(tunables=tuple(tunables), notes=tuple(dict.fromkeys(notes)))


def _is_selected(function: Function, wanted: RoceSettings) -> bool:
    device = function.rdma.device if function.rdma else ""
    return any(fnmatchcase(device, glob) for glob in wanted.devices)


def _of_function(
    root: Root, function: Function, twin: Function | None, wanted: RoceSettings
) -> Iterator[Tunable]:
    if function.netdev:
        make = _Maker(root, function, twin)
        if wanted.mtu != "off":
            yield make.mtu(wanted.mtu)
        yield from make.pauses(wanted.pause)
        yield from make.rings(wanted)
        yield from make.adaptive(wanted.adaptive_coalescing)
        if wanted.pfc_priorities != "off":
            yield make.priorities(wanted.pfc_priorities)
        if wanted.trust != "off":
            yield make.trust(wanted.trust)
    if function.rdma and wanted.traffic_class != "off":
        yield _traffic_class(root, function, function.rdma.device, wanted.traffic_class)


class _Maker:
    """Makes the tunables of one interface."""

    def __init__(self, root: Root, function: Function, twin: Function | None) -> None:
        """For this function; pause, PFC and trust are the port's, and so also its twin's."""
        self._root = root
        self._function = function
        pairs = [QueuePairs(root, one.rdma.device) for one in (function, twin) if one and one.rdma]
        self._traffic = PortTraffic(pairs[:1] if function.rdma else ())
        self._port_traffic = PortTraffic(pairs)

    def mtu(self, mtu: int) -> Tunable:
        """The MTU, with who owns it and what is to be changed there."""
        owner, id_ = self._function.owner, f"{AREA}.{self._function.netdev}.mtu"
        change = change_for(owner, mtu)
        yields = ""
        if owner.mtu not in (None, mtu):
            yields = f"{owner_of(owner)} sets {owner.mtu}: reported and not fought"
        elif change:
            change += f"; until then: sparktune apply {shell_word(id_)}"
        return self._make(
            MTU, "mtu", mtu, "mtu", (_MTU_WHY, _MTU_SOURCE, _MTU_RISK),
            disruptive=True, owner=owner_of(owner), do=change, yields=yields,
        )  # fmt: skip

    def pauses(self, wanted: str) -> Iterator[Tunable]:
        """Pause frames of both directions."""
        texts = _PAUSE_WHY, _PAUSE_SOURCE, _PAUSE_RISK
        for side in _SIDES if wanted != "off" else ():
            yield self._make(
                f"ethtool/pause_{side}", f"pause_{side}", int(wanted in (side, "both")), "pause", texts,
                disruptive=True,
            )  # fmt: skip

    def rings(self, wanted: RoceSettings) -> Iterator[Tunable]:
        """The sizes of the rings."""
        texts = _RING_WHY, _RING_SOURCE, _RING_RISK
        for side, size in zip(_SIDES, (wanted.rx_ring, wanted.tx_ring), strict=True):
            if size != "off":
                name = f"{side}_ring"
                yield self._make(f"ethtool/{name}", name, size, name, texts, disruptive=True)

    def adaptive(self, wanted: str) -> Iterator[Tunable]:
        """Adaptive coalescing of both directions."""
        texts = _ADAPTIVE_WHY, _ADAPTIVE_SOURCE, _ADAPTIVE_RISK
        for side in _SIDES if wanted != "off" else ():
            name, value = f"adaptive_{side}", int(wanted in (side, "both"))
            yield self._make(f"ethtool/{name}", name, value, "adaptive_coalescing", texts)

    def priorities(self, wanted: tuple[int, ...]) -> Tunable:
        """The priorities with PFC."""
        text = ",".join(str(one) for one in sorted(wanted)) or NOT_ANY
        texts = _PFC_WHY, _PFC_SOURCE, _PFC_RISK
        return self._make(PRIORITIES, "pfc_priorities", text, "pfc_priorities", texts, disruptive=True)

    def trust(self, wanted: str) -> Tunable:
        """What is trusted. To go back to PCP, the whole map has to be kept: it is lost by that."""
        parameter = TRUST if wanted == "dscp" else TRUST_MAP
        texts = _TRUST_WHY, _TRUST_SOURCE, _TRUST_RISK
        return self._make(parameter, "trust", wanted, "trust", texts, disruptive=True)

    def _make(
        self, parameter: str, name: str, wanted: Value, key: str, texts: tuple[str, str, str],
        *, disruptive: bool = False, owner: str = "", do: str = "", yields: str = "",
    ) -> Tunable:  # fmt: skip
        netdev = self._function.netdev
        return Tunable(
            id=f"{AREA}.{netdev}.{name}",
            area=AREA,
            device=netdev,
            attribute=open_parameter(self._root, netdev, parameter),
            wanted=wanted,
            why=texts[0],
            source=texts[1],
            risk=texts[2],
            disruptive=disruptive,
            traffic=(self._port_traffic if key in _OF_PORT else self._traffic) if disruptive else None,
            yields=yields,
            key=f"{AREA}.{key}",
            interfaces=touching(self._function),
            owner=owner,
            do=do,
        )


def touching(function: Function) -> tuple[str, ...]:
    """Whose events touch what is set on a function."""
    names = function.netdev, function.rdma.device if function.rdma else "", function.bdf
    return tuple(name for name in names if name)


def _traffic_class(root: Root, function: Function, device: str, wanted: int) -> Tunable:
    return Tunable(
        id=f"{AREA}.{device}.traffic_class",
        area=AREA,
        device=device,
        attribute=TrafficClass(
            root,
            f"{_RDMA}/{device}/tc/1/traffic_class",
            identity=identify_directory(root, f"{_RDMA}/{device}"),
        ),
        wanted=wanted,
        why=_CLASS_WHY,
        source=_CLASS_SOURCE,
        risk=_CLASS_RISK,
        interfaces=touching(function),
        key=f"{AREA}.traffic_class",
    )


def owner_of(owner: Owner) -> str:
    """Who owns an interface, as people look for it: the file, else the program; empty for nobody."""
    return (owner.file or owner.kind.value) if owner.is_somebody else ""


def change_for(owner: Owner, mtu: int) -> str:
    """The change at the owner's that sets this MTU for good; empty where nobody owns the interface."""
    return re.sub(r"\bMTU\b", str(mtu), owner.change)


def _of_owner(function: Function, wanted: RoceSettings) -> Iterator[Note]:
    """That an MTU which its owner does not know of does not last."""
    owner = function.owner
    if wanted.mtu == "off" or not owner.is_somebody or owner.mtu is not None or not function.netdev:
        return
    says = f"{owner_of(owner)} sets no MTU: {wanted.mtu} is lost when it configures {function.netdev} again"
    yield Note(area=AREA, level="info", says=says, do=change_for(owner, wanted.mtu))
