"""The peers' part of the `roce` area: does each other node answer, and with packets as large as the MTU.

Declares checks only; nothing is sent here, and nothing at all while `roce.peers` is empty.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sparktune.fabric.naming import listed, shell_word
from sparktune.fabric.peers import is_own, leads_to, parse_own, parse_peer
from sparktune.kernel.addresses import ipv6_addresses
from sparktune.kernel.identity import identify_directory
from sparktune.kernel.ipv4 import ipv4_addresses
from sparktune.kernel.path import ANSWERS, Pair, PathAttribute
from sparktune.model import Note, Reading, ReadingKind, Tunable
from sparktune.tunables.area import Discovery
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.fabric.model import Fabric, Function
    from sparktune.fabric.peers import OwnAddress, Peer
    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.settings import Settings

AREA = "roce"

_NET = "/sys/class/net"
_NOWHERE = "on no twin's subnet"
_WHY = (
    "A peer that a twin cannot reach costs half the links or all; NCCL then hangs or falls back to sockets."
)
_WHY_MTU = (
    "Packets larger than the other end takes vanish in silence: connections stand and large messages hang. "
    "The MTU has to be the same on both ends and on everything between."
)
_SOURCE = "icmp(7), ip(7): IP_MTU_DISCOVER, IP_PMTUDISC_PROBE"


def declare(host: Host, settings: Settings, fabric: Fabric) -> Discovery:
    """Two checks for each peer and each twin on whose subnet it is."""
    peers = [parse_peer(text) for text in settings.roce.peers]
    twins = [function for function in fabric.everything if function.netdev] if peers else []
    if not peers or not twins:
        reason = "no interface of a ConnectX port to reach the peers by" if peers else ""
        return Discovery(tunables=(), absent=reason)
    addresses = _addresses(host.root, twins, peers)
    tunables: list[Tunable] = []
    notes: list[Note] = []
    for peer in peers:
        if any(is_own(own, peer) for own in addresses.values()):
            notes.append(_own_note(peer))
            continue
        leading = [twin for twin in twins if leads_to(twin.netdev, addresses[twin.netdev], peer)]
        for twin in leading:
            tunables += _checks(host.root, twin, peer)
        if not leading:
            tunables.append(_nowhere(host.root, peer, twins))
    return Discovery(tunables=tuple(tunables), notes=tuple(notes))


def inventory(host: Host, settings: Settings) -> object:
    """What decides which interface leads to which peer, and how large a packet should pass."""
    if not settings.roce.peers:
        return None
    root = host.root
    names = [name for name in root.names(_NET) if root.exists(f"{_NET}/{name}/device")]
    addresses = ipv4_addresses(root)
    links = [
        (name, root.read(f"{_NET}/{name}/carrier"), root.read(f"{_NET}/{name}/mtu"), addresses.get(name))
        for name in names
    ]
    return links, root.read("/proc/net/if_inet6") if any(":" in one for one in settings.roce.peers) else None


def _addresses(root: Root, twins: Sequence[Function], peers: Sequence[Peer]) -> dict[str, list[OwnAddress]]:
    wants_ipv6 = any(peer.family == socket.AF_INET6 for peer in peers)
    ipv6 = ipv6_addresses(root) if wants_ipv6 else {}
    return {
        twin.netdev: [own for text in twin.addresses if (own := parse_own(text)) is not None]
        + ipv6.get(twin.netdev, [])
        for twin in twins
    }


def _own_note(peer: Peer) -> Note:
    return Note(
        area=AREA,
        level="info",
        says=f"roce.peers: {peer} is an address of this machine itself, so it is not pinged",
        do="nothing, if the file is meant for all nodes; else put the other node's address there",
    )


def _checks(root: Root, twin: Function, peer: Peer) -> Iterator[Tunable]:
    mtu = twin.mtu or 0
    pair = Pair(twin.netdev, peer.address, mtu)
    identity = identify_directory(root, f"{_NET}/{twin.netdev}")
    fixed = _obstacle(twin)
    yield Tunable(
        id=f"{AREA}.{twin.netdev}.peer_{peer.name}",
        area=AREA,
        device=twin.netdev,
        attribute=PathAttribute(root, pair, identity, fixed=fixed),
        wanted=ANSWERS,
        why=_WHY,
        source=_SOURCE,
        key="roce.peers",
        interfaces=(twin.netdev,),
        do=(
            f"on the node that has {peer.address}: is that interface up, with this address, and does its "
            "firewall let pings in (ip -brief address); here: "
            f"ping -I {shell_word(twin.netdev)} {shell_word(str(peer))}"
        ),
    )
    yield Tunable(
        id=f"{AREA}.{twin.netdev}.peer_{peer.name}_path_mtu",
        area=AREA,
        device=twin.netdev,
        attribute=PathAttribute(root, pair, identity, wants_mtu=True, fixed=fixed),
        wanted=mtu,
        unit="B",
        why=_WHY_MTU,
        source=_SOURCE,
        key="roce.peers",
        interfaces=(twin.netdev,),
        do=(
            f"give the interface that has {peer.address} on the other node MTU {mtu} too (netplan: mtu, "
            "NetworkManager: ethernet.mtu), and every switch port between; or both ends the smaller one"
        ),
    )


def _obstacle(twin: Function) -> Reading | None:
    if not twin.carrier:
        return Reading(ReadingKind.ABSENT, reason=f"{plain(twin.netdev)} has no carrier")
    if not twin.mtu:
        return Reading(ReadingKind.FAILED, reason=f"the MTU of {plain(twin.netdev)} cannot be read")
    return None


def _nowhere(root: Root, peer: Peer, twins: Sequence[Function]) -> Tunable:
    """A peer that no interface leads to: wrong address, or this end has none on its subnet."""
    names = listed(twin.netdev for twin in twins)
    fixed = Reading(ReadingKind.VALUE, _NOWHERE)
    if not any(twin.carrier for twin in twins):
        fixed = Reading(ReadingKind.ABSENT, reason=f"none of {names} has a carrier")
    return Tunable(
        id=f"{AREA}.peers.{peer.name}",
        area=AREA,
        device="peers",
        attribute=PathAttribute(root, Pair("", str(peer), 0), ("", ""), fixed=fixed),
        wanted=ANSWERS,
        why=_WHY,
        source=_SOURCE,
        key="roce.peers",
        do=(
            f"give one of {names} an address on the subnet of {peer}, or write the address in roce.peers "
            "that the other node has on the ConnectX port"
        ),
    )
