"""From the fabric to the environment that NCCL and UCX need on this node. Pure; sets nothing itself.

Every rule follows NCCL's own sources; docs/nccl.md says which file of which release.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sparktune.fabric.fitness import cabled_ports, find_problems
from sparktune.fabric.nccl_text import quote
from sparktune.fabric.nccl_version import (
    CHOOSES_GIDS,
    FUSES_BY_FUNCTION,
    FUSES_BY_TOPOLOGY,
    ROUTES_BY_SUBNET,
    UNSAID,
    Version,
)
from sparktune.fabric.suggestion import Problem, Removal, Setting, Suggestion
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.fabric.model import Fabric, Function, Port

GID_INDEX = "NCCL_IB_GID_INDEX"
_SUBNET_PREFIX = 24
"""NCCL_IB_SUBNET_PREFIX_LEN's default."""
_LANES = 4
"""What each function of a GB10's ConnectX-7 has."""


def suggest(fabric: Fabric, version: Version | None = None) -> Suggestion:
    """The environment for the fabric as it is now, or what to mend first.

    Args:
        fabric: as `kernel.fabric.read_fabric` found it.
        version: of NCCL; None: 2.21 or later.
    """
    said = UNSAID if version is None else str(version)
    problems = find_problems(fabric)
    ports = cabled_ports(fabric)
    pin: int | None = None
    if not problems and version is not None and version < CHOOSES_GIDS:
        pin, problems = _pin(version, _functions(ports))
    if problems:
        return Suggestion(fit=False, nccl_version=said, problems=problems)
    return Suggestion(
        fit=True,
        nccl_version=said,
        variables=(*_variables(ports, version, pin),),
        unset=() if pin is not None else (_unset_pin(),),
        notes=(*_notes(fabric, ports, version),),
    )


def describe_for_advice(fabric: Fabric) -> str:
    """For the advisor: what to put before a program that uses NCCL, or the sentence why it cannot.

    Returns:
        Lines `export NAME='value'` and `unset NAME` without comments; if the fabric is not fit, one line that
        begins with `not fit for NCCL: `, with what to mend. `suggest(fabric).fit` tells them apart.
    """
    suggestion = suggest(fabric)
    if not suggestion.fit:
        return "not fit for NCCL: " + "; ".join(f"{one.what} ({one.do})" for one in suggestion.problems)
    lines = [f"export {one.name}={quote(one.value)}" for one in suggestion.variables]
    return "\n".join(lines + [f"unset {one.name}" for one in suggestion.unset])


def _functions(ports: Sequence[Port]) -> list[Function]:
    return [function for port in ports for function in port.functions]


def _devices(functions: Sequence[Function]) -> list[tuple[str, int]]:
    return [(one.rdma.device, one.rdma.number) for one in functions if one.rdma]


def _variables(ports: Sequence[Port], version: Version | None, pin: int | None) -> Iterator[Setting]:
    functions = _functions(ports)
    names = " and ".join(plain(port.name) for port in ports)
    whole = "both twins" if len(functions) > len(ports) else "the only function"
    yield Setting(
        name="NCCL_IB_HCA",
        value="=" + ",".join(name for name, _ in _devices(functions)),
        reason=f"{whole} of {names}, by exact name; NCCL takes whatever it finds otherwise, and one twin "
        "carries about half",
    )
    if pin is not None:
        yield Setting(
            name=GID_INDEX,
            value=str(pin),
            reason=f"NCCL before {CHOOSES_GIDS} takes 0, a RoCE v1 GID, without it; the table moves with "
            "link flaps: look again then",
        )
    if len(ports) > 1:
        yield from _separate(functions, version)
        return
    socket = next((one for one in functions if _real_address(one)), functions[0])
    address = _real_address(socket) or socket.addresses[0] if socket.addresses else "its address"
    yield Setting(
        name="NCCL_SOCKET_IFNAME",
        value=f"={socket.netdev}",
        reason=f"the nodes find each other over the cable, through {plain(address)}; NCCL takes the first "
        "interface it sees otherwise",
    )
    yield Setting(
        name="UCX_NET_DEVICES",
        value=",".join(f"{name}:{number}" for name, number in _devices(functions)),
        reason="the same devices for UCX, each with its port; UCX chooses GIDs and transports itself",
    )


def _separate(functions: Sequence[Function], version: Version | None) -> Iterator[Setting]:
    """What keeps two cabled ports apart, so that they may lead to different nodes."""
    fuses = "NCCL fuses a function of one port with one of the other, and they may lead to different nodes"
    if version is None or version >= FUSES_BY_TOPOLOGY:
        yield Setting(name="NCCL_NET_MERGE_LEVEL", value="LOC", reason=fuses)
    elif version >= FUSES_BY_FUNCTION:
        yield Setting(name="NCCL_IB_MERGE_NICS", value="0", reason=fuses)
    if version is not None and version < ROUTES_BY_SUBNET:
        return
    yield Setting(
        name="NCCL_IB_SUBNET_AWARE_ROUTING",
        value="1",
        reason="finds the port that leads to a node by its subnet; NCCL before "
        f"{ROUTES_BY_SUBNET} ignores it and cannot do a ring",
    )
    lengths = {one.rpartition("/")[2] for function in functions for one in function.addresses}
    if len(lengths) == 1 and lengths != {str(_SUBNET_PREFIX)}:
        yield Setting(
            name="NCCL_IB_SUBNET_PREFIX_LEN",
            value=lengths.pop(),
            reason=f"the prefix length of these subnets; NCCL assumes {_SUBNET_PREFIX}",
        )
    yield Setting(
        name="NCCL_NET_PLUGIN",
        value="none",
        reason="only NCCL's own transport routes by subnet; a plugin in a container would take its place",
    )


def _unset_pin() -> Removal:
    return Removal(
        name=GID_INDEX,
        reason=f"NCCL {CHOOSES_GIDS} and later choose the GID of each device; one pinned for all breaks when "
        "a table moves",
    )


def _notes(fabric: Fabric, ports: Sequence[Port], version: Version | None) -> Iterator[str]:
    for port in ports:
        if len({function.mtu for function in port.functions}) > 1:
            mtus = ", ".join(f"{plain(one.name)} {one.mtu or 'unknown'}" for one in port.functions)
            yield (
                f"the twins of {plain(port.name)} differ in MTU ({mtus}): NCCL works, but slower (17.85 GB/s "
                "instead of 23.85 in one all-gather); give both 9000, at both ends"
            )
        yield from _note_lanes(port)
        if len(port.functions) == 1:
            yield f"{plain(port.name)} has one function: about half the rate; a Spark has two for each port"
    if len(ports) > 1:
        yield from _explain_two_ports(ports, version)


def _note_lanes(port: Port) -> Iterator[str]:
    narrow = [one for one in port.functions if one.pcie_width is not None and one.pcie_width < _LANES]
    for one in narrow:
        yield (
            f"{plain(one.name)} runs over {one.pcie_width} PCIe lanes instead of {_LANES}: NCCL works, but "
            "that twin cannot carry its half; sparktune fabric says what to do"
        )


def _explain_two_ports(ports: Sequence[Port], version: Version | None) -> Iterator[str]:
    first = plain(ports[0].functions[0].netdev)
    yield (
        f"{len(ports)} ports are cabled: a ring of three nodes, a switch, or two cables to one node. "
        "One cable carries the full rate already"
    )
    if version is not None and version < ROUTES_BY_SUBNET:
        yield (
            f"NCCL {version} hangs in a ring: that needs {ROUTES_BY_SUBNET}. Two cables to one node, or a "
            "switch, work"
        )
    yield (
        "NCCL_SOCKET_IFNAME and UCX_NET_DEVICES are left to you: in a ring no port reaches every node, so "
        "name an interface of the network all nodes share (NVIDIA uses enP7s7); with two nodes or a switch "
        f"{first} will do"
    )


def _real_address(function: Function) -> str:
    """Its first IPv4 address that is no self-made one; empty: it has none."""
    return next((one for one in function.addresses if not one.startswith("169.254.")), "")


def _pin(version: Version, functions: Sequence[Function]) -> tuple[int | None, tuple[Problem, ...]]:
    """The one GID index that is right on every device, or why there is none."""
    choices = {one.rdma.device: _indices(one) for one in functions if one.rdma}
    common = set.intersection(*choices.values())
    if common:
        return min(common), ()
    told = ", ".join(
        f"{plain(device)} {' or '.join(map(str, sorted(indices)))}" for device, indices in choices.items()
    )
    most = Counter(index for indices in choices.values() for index in indices)
    index = max(sorted(most), key=lambda one: most[one])
    kept = [device for device, indices in choices.items() if index in indices]
    dropped = [device for device in choices if device not in kept]
    return None, (
        Problem(
            what=f"NCCL {version} has one GID index for all devices, and they need different ones: {told}",
            do=f"use NCCL {CHOOSES_GIDS} or later, which chooses one for each; or do without "
            f"{', '.join(map(plain, dropped))}, {len(dropped)} of {len(choices)} devices and as much of the "
            f"rate: NCCL_IB_HCA={quote('=' + ','.join(kept))} {GID_INDEX}={index}",
        ),
    )


def _indices(function: Function) -> set[int]:
    """The GIDs that RoCE v2 over IPv4 can use; those of self-made addresses only if there are no others."""
    found = [gid for gid in function.rdma.gids if gid.is_v2 and gid.ipv4] if function.rdma else []
    real = [gid for gid in found if not gid.is_zeroconf]
    return {gid.index for gid in real or found}
