"""What makes NCCL hang or die over a fabric, and what to mend. What merely costs speed is no problem here.

Pure: from a `Fabric` to sentences. Names of devices in sentences are made printable, in commands quoted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.fabric.model import OwnerKind, Presence
from sparktune.fabric.naming import shell_word
from sparktune.fabric.suggestion import Problem
from sparktune.wording import plain, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sparktune.fabric.model import Fabric, Function, Gid, Port, RdmaPort

SEPARATORS = ",:[]^"
"""What no name in NCCL_IB_HCA, NCCL_SOCKET_IFNAME or UCX_NET_DEVICES may contain: NCCL and UCX parse them."""


def cabled_ports(fabric: Fabric) -> tuple[Port, ...]:
    """The ports that a cable is plugged into."""
    return tuple(port for port in fabric.ports if port.is_cabled)


def gid_nccl_takes(rdma: RdmaPort) -> Gid | None:
    """The GID that NCCL from 2.21 on chooses: the first RoCE v2 one with an IPv4 address, zeroconf or not.

    Source: NVIDIA/nccl v2.30.7-1 src/transport/net_ib/connect.cc, ncclUpdateGidIndex.
    """
    return next((gid for gid in rdma.gids if gid.is_v2 and gid.ipv4), None)


def find_problems(fabric: Fabric) -> tuple[Problem, ...]:
    """Everything that stands against NCCL over this fabric, worst first; empty: it is fit."""
    if not fabric.functions:
        return (_explain_absence(fabric),)
    cabled = cabled_ports(fabric)
    if not cabled:
        return (_explain_no_link(fabric),)
    found = [*_missing_twins(fabric, cabled)]
    for port in cabled:
        faults = [fault for function in port.functions if (fault := _find_fault(port, function))]
        found += faults or [*_lone_zeroconf(port)]
    return (*found, *_unusable_names(cabled))


def _explain_absence(fabric: Fabric) -> Problem:
    if fabric.presence is Presence.POWERED_DOWN:
        return Problem(
            what="the ConnectX-7 is powered down: no cable is plugged in",
            do="plug in the QSFP cable; the NIC comes back by itself",
        )
    return Problem(
        what="this machine has no ConnectX-7",
        do="on a Spark, lspci -d 15b3: lists four functions; without one NCCL uses sockets, no variables",
    )


def _explain_no_link(fabric: Fabric) -> Problem:
    asleep = [function for function in fabric.functions if function.netdev and function.carrier is None]
    what = f"no port has a link ({_join(function.name for function in fabric.functions)})"
    do = "plug in the QSFP cable, or look at its other end"
    if asleep:
        commands = "; ".join(f"sudo ip link set {shell_word(one.netdev)} up" for one in asleep)
        what += f"; {_join(function.name for function in asleep)} switched off by an administrator"
        do = f"{commands}; then {do}"
    return Problem(what=what, do=do)


def _missing_twins(fabric: Fabric, cabled: Sequence[Port]) -> Iterator[Problem]:
    for port in cabled:
        if len(port.functions) == 1 and len(fabric.functions) > 1:
            lonely = port.functions[0]
            bare = [one for one in fabric.functions if not one.netdev]
            where = f"; {_join(one.name for one in bare)} has no interface" if bare else ""
            yield Problem(
                what=f"{plain(lonely.name)} ({plain(port.name)}) has no twin{where}; the other node has two",
                do="look why the driver gave it none: journalctl -k -g mlx5; a reboot brings all four back",
            )


def _find_fault(port: Port, function: Function) -> Problem | None:
    """The first thing wrong with one function of a cabled port."""
    name = _introduce(port, function)
    if not function.netdev:
        return Problem(what=f"{name} has no interface", do="is its driver bound? journalctl -k -g mlx5")
    if not function.carrier:
        return _explain_no_carrier(name, function)
    rdma = function.rdma
    if rdma is None:
        return Problem(
            what=f"{name} has no RDMA device",
            do="sudo modprobe mlx5_ib; if that does not give it one: journalctl -k -g mlx5",
        )
    if not rdma.is_active:
        return Problem(
            what=f"{name}: the port of its RDMA device {plain(rdma.device)} is "
            f"{plain(rdma.state) or 'unknown'}, not ACTIVE, so NCCL leaves it out",
            do=_restart(function),
        )
    if rdma.link_layer and rdma.link_layer != "Ethernet":
        return Problem(
            what=f"{name} runs {plain(rdma.link_layer)}, not Ethernet: that is no RoCE",
            do="set the port's link type to Ethernet with mlxconfig, at both ends, and reboot",
        )
    return None if gid_nccl_takes(rdma) else _explain_no_gid(name, function)


def _explain_no_carrier(name: str, function: Function) -> Problem:
    if function.carrier is None:
        return Problem(
            what=f"{name} is switched off", do=f"sudo ip link set {shell_word(function.netdev)} up"
        )
    return Problem(
        what=f"{name} has no link, although the cable is in",
        do=f"{_restart(function)}; if it stays down: journalctl -k -g mlx5, then take the cable out and in",
    )


def _explain_no_gid(name: str, function: Function) -> Problem:
    if not function.addresses:
        return Problem(
            what=f"{name} has no IPv4 address, so no RoCE v2 GID that NCCL takes", do=_address(function)
        )
    return Problem(
        what=f"{name} has {plain(', '.join(function.addresses))}, but no RoCE v2 GID for it",
        do=f"{_restart(function)}; sparktune fabric shows the GIDs",
    )


def _lone_zeroconf(port: Port) -> Iterator[Problem]:
    """Twins of which one would use a 169.254 address and the other not: then nodes pair different GIDs."""
    taken = [(function, gid_nccl_takes(function.rdma)) for function in port.functions if function.rdma]
    zeroconf = [(function, gid) for function, gid in taken if gid and gid.is_zeroconf]
    if not zeroconf or len(zeroconf) == len(taken):
        return
    for function, gid in zeroconf:
        others = function.rdma and any(
            one.is_v2 and one.ipv4 and not one.is_zeroconf for one in function.rdma.gids
        )
        drop = f"sudo ip address delete {gid.ipv4}/16 dev {shell_word(function.netdev)}"
        yield Problem(
            what=f"{_introduce(port, function)} would use the self-made address {gid.ipv4}, its twin a real "
            "one: GIDs then differ between the nodes, and NCCL dies with ibv_modify_qp: Invalid argument",
            do=f"{drop}; it has a real address too" if others else _address(function),
        )


def _unusable_names(cabled: Sequence[Port]) -> Iterator[Problem]:
    for function in (function for port in cabled for function in port.functions):
        rdma = function.rdma.device if function.rdma else ""
        for kind, name in (("interface", function.netdev), ("RDMA device", rdma)):
            if any(letter in SEPARATORS or letter.isspace() or not letter.isprintable() for letter in name):
                command = "ip link set OLD name NEW" if kind == "interface" else "rdma dev set OLD name NEW"
                yield Problem(
                    what=f"the {kind} of {function.bdf} is called {quoted(name)}: a comma, colon, bracket, "
                    "caret, blank or control character does not work in NCCL_IB_HCA or UCX_NET_DEVICES",
                    do=f"give it another name: sudo {command}",
                )


def _introduce(port: Port, function: Function) -> str:
    """`enP2p1s0f0np0 (p0, twin of enp1s0f0np0)`."""
    twins = _join(one.name for one in port.functions if one is not function)
    return f"{plain(function.name)} ({plain(port.name)}{', twin of ' + twins if twins else ''})"


def _restart(function: Function) -> str:
    name = shell_word(function.netdev)
    return f"sudo ip link set {name} down; sudo ip link set {name} up"


def _address(function: Function) -> str:
    """How to give an interface an address for good, where its owner keeps it."""
    owner, name = function.owner, shell_word(function.netdev)
    subnet = "in the subnet of the same twin at the other end, another one than its twin's"
    if owner.kind is OwnerKind.NETPLAN and owner.file:
        key, file = plain(owner.key, most=120), shell_word(owner.file)
        return f"give it an address, {subnet}: addresses: below {key} in {file}; then sudo netplan apply"
    if owner.kind is OwnerKind.NETWORK_MANAGER and owner.key:
        key = shell_word(owner.key)
        return (
            f"give it an address, {subnet}: sudo nmcli connection modify {key} ipv4.method manual "
            f"ipv4.addresses ADDRESS/24; sudo nmcli connection up {key}"
        )
    if owner.kind is OwnerKind.NETWORKD and owner.file:
        file = shell_word(owner.file)
        return f"give it an address, {subnet}: Address= in {file}; then sudo networkctl reload"
    return (
        f"give it an address, {subnet}: sudo ip address add ADDRESS/24 dev {name}; netplan makes it permanent"
    )


def _join(names: Iterable[str]) -> str:
    return ", ".join(plain(name) for name in names)
