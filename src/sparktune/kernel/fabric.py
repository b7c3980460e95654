"""The fabric as found: ConnectX-7 functions and other RDMA devices, from sysfs. Judges nothing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.fabric.model import Fabric, Function, Presence, RdmaPort
from sparktune.kernel.connectx import find_evidence, is_function
from sparktune.kernel.gids import read_gids
from sparktune.kernel.ipv4 import ipv4_addresses
from sparktune.kernel.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.kernel.root import Root

_PCI = "/sys/bus/pci/devices"
_NET = "/sys/class/net"
_RDMA = "/sys/class/infiniband"
_NET_FACTS = ("carrier", "address", "phys_port_name", "ifindex", "operstate", "mtu", "speed")
_LINK_FACTS = ("current_link_speed", "current_link_width")
_PORT_FACTS = ("state", "phys_state", "link_layer", "rate")
_TWINS = 2
_BDF = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?(?![0-9])")
_MOST_DIGITS = 9


def read_fabric(root: Root) -> Fabric:
    """Everything there is now. What leaves while it is read is not known, and costs nothing else."""
    addresses, owners = ipv4_addresses(root), Owners(root)
    found = [
        _function(root, bdf, addresses, owners) for bdf in root.names(_PCI) if is_function(root, "pci", bdf)
    ]
    found = _tell_chips_apart(root, found)
    known = {function.rdma.device for function in found if function.rdma}
    others = [_other(root, device, addresses, owners) for device in root.names(_RDMA) if device not in known]
    presence, evidence = (Presence.PRESENT, ()) if found else find_evidence(root)
    return Fabric(presence=presence, evidence=evidence, functions=tuple(found), others=tuple(others))


def _function(root: Root, bdf: str, addresses: Mapping[str, tuple[str, ...]], owners: Owners) -> Function:
    path = f"{_PCI}/{bdf}"
    netdev = next(iter(root.names(f"{path}/net")), "")
    device = next(iter(root.names(f"{path}/infiniband")), "")
    return _describe(root, bdf, netdev, device, addresses, owners)


def _tell_chips_apart(root: Root, functions: list[Function]) -> list[Function]:
    """Where a machine has more than one chip, each with a port `p0`, their ports get names of their own.

    Functions of one chip have one system image GUID, whatever PCI domain they are in. Source: kernel,
    drivers/net/ethernet/mellanox/mlx5/core/dev.c, mlx5_same_hw_devs. A Spark has one chip and two twins a
    port: there it is not asked for.
    """
    counted = Counter(function.port for function in functions if function.port)
    if max(counted.values(), default=0) <= _TWINS:
        return functions
    chips: dict[str, str] = {}
    apart = []
    for one in functions:
        guid = root.read(f"{_RDMA}/{one.rdma.device}/sys_image_guid") if one.rdma else None
        first = chips.setdefault(guid or one.bdf.rpartition(".")[0], one.bdf)
        apart.append(replace(one, port=f"{one.port}@{first}" if one.port else ""))
    return apart if len(chips) > 1 else functions


def _other(root: Root, device: str, addresses: Mapping[str, tuple[str, ...]], owners: Owners) -> Function:
    """An RDMA device of another kind; its GID table, or Soft-RoCE's `parent`, says on which interface."""
    ndevs = f"{_RDMA}/{device}/ports/1/gid_attrs/ndevs"
    netdev = root.read_name(f"{ndevs}/0") or root.read_name(f"{_RDMA}/{device}/parent")
    if not root.exists(f"{_NET}/{netdev}") or not netdev:
        netdev = next(iter(root.names(f"{_RDMA}/{device}/device/net")), "")
    place = root.resolve(f"{_NET}/{netdev}/device") if netdev else root.resolve(f"{_RDMA}/{device}/device")
    bdf = place.rpartition("/")[2]
    return _describe(root, bdf if _BDF.fullmatch(bdf) else "", netdev, device, addresses, owners)


def _describe(
    root: Root, bdf: str, netdev: str, device: str, addresses: Mapping[str, tuple[str, ...]], owners: Owners
) -> Function:
    pci = f"{_PCI}/{bdf}"
    net = root.texts(f"{_NET}/{netdev}", _NET_FACTS) if netdev else {}
    link = root.texts(pci, _LINK_FACTS) if bdf else {}
    driver = (root.link(f"{pci}/driver") or "").rpartition("/")[2] if bdf else ""
    carrier, mac = net.get("carrier"), net.get("address", "")
    return Function(
        bdf=bdf,
        netdev=netdev,
        rdma=_read_rdma(root, device) if device else None,
        port=net.get("phys_port_name", ""),
        index=_whole(net.get("ifindex")),
        mac=mac,
        driver=driver,
        driver_version=(root.read(f"/sys/module/{driver}/version") or "") if driver else "",
        out_of_tree=_is_out_of_tree(root, driver) if driver else None,
        firmware=(root.read(f"{_RDMA}/{device}/fw_ver") or "") if device else "",
        carrier=carrier == "1" if carrier in ("0", "1") else None,
        operstate=net.get("operstate", ""),
        mtu=_whole(net.get("mtu")),
        speed_mbps=_whole(net.get("speed")),
        pcie_gts=_number(link.get("current_link_speed")),
        pcie_width=_whole(link.get("current_link_width")),
        addresses=addresses.get(netdev, ()),
        owner=owners.find(netdev, mac, driver),
    )


def _is_out_of_tree(root: Root, driver: str) -> bool | None:
    """Whether the driver's module taints the kernel as one that is no part of it (`O`); None: not known.

    Source: kernel, Documentation/admin-guide/tainted-kernels.rst; /sys/module/NAME/taint in
    Documentation/ABI/testing/sysfs-module. A driver that is built in has no such file and is in-tree.
    """
    module = f"/sys/module/{driver}"
    if not root.exists(module):
        return None
    return "O" in (root.read(f"{module}/taint") or "")


def _read_rdma(root: Root, device: str) -> RdmaPort:
    """Its first port; an Ethernet RDMA device has one.

    Source: kernel, Documentation/ABI/stable/sysfs-class-infiniband.
    """
    numbers = [name for name in root.names(f"{_RDMA}/{device}/ports") if name.isdecimal()]
    number = min((int(name) for name in numbers), default=1)
    port = f"{_RDMA}/{device}/ports/{number}"
    facts = root.texts(port, _PORT_FACTS)
    return RdmaPort(
        device=device,
        number=number,
        state=_behind_number(facts.get("state")),
        physical=_behind_number(facts.get("phys_state")),
        link_layer=facts.get("link_layer", ""),
        rate_gbps=_number(facts.get("rate")),
        gids=read_gids(root, port),
    )


def _behind_number(text: str | None) -> str:
    """`4: ACTIVE` is ACTIVE."""
    return (text or "").rpartition(": ")[2]


def _number(text: str | None) -> float | None:
    found = _NUMBER.match(text or "")
    return float(found[0]) if found else None


def _whole(text: str | None) -> int | None:
    if text is None or not text.isdecimal() or len(text) > _MOST_DIGITS:
        return None
    return int(text)
