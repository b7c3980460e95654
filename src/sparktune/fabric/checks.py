"""What must hold of one function of the fabric: pure, each from the fabric and a PCI address to a reading.

A reading is the value found, or absent with the reason: no cable in its port, or the kernel does not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.fabric.model import Port
from sparktune.model import Reading, ReadingKind
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.fabric.model import Fabric, Function, RdmaPort

ACTIVE = "ACTIVE"
ETHERNET = "Ethernet"
NO_RDMA = "no RDMA device"
V2_GID = "RoCE v2 with IPv4"
LEAST_RDMA_MTU = 1024
AT_LEAST = f"{LEAST_RDMA_MTU} or more"

_RDMA_HEADERS = 40 + 8 + 12 + 4 + 28 + 4  # GRH, UDP, BTH, XRC, AtomicETH, ICRC
_RDMA_MTUS = (4096, 2048, 1024, 512, 256)


def value(found: int | str, detail: str = "") -> Reading:
    """A reading with a value, and what else is known of it."""
    return Reading(ReadingKind.VALUE, found, detail)


def absent(reason: str) -> Reading:
    """A reading without a value, because there legitimately is none."""
    return Reading(ReadingKind.ABSENT, reason=reason)


def find(fabric: Fabric, bdf: str) -> Function | None:
    """The function at a PCI address; None if it left."""
    return next((one for one in fabric.functions if one.bdf == bdf), None)


def port_of(fabric: Fabric, name: str) -> Port | None:
    """The port of a name; None if all of its functions left."""
    functions = tuple(one for one in fabric.functions if (one.port or one.bdf) == name)
    return Port(name=name, functions=functions) if functions else None


def no_cable(port: Port) -> str:
    """Why a port is no finding although nothing runs over it."""
    return f"no carrier on port {plain(port.name)}: no cable, or the other end is off"


def rdma_mtu(mtu: int) -> int:
    """The MTU that RDMA uses over an interface of this MTU, in bytes; 0 if it is too small for any.

    The largest RDMA MTU that fits beside 96 bytes of headers. Source: kernel: include/rdma/ib_addr.h,
    iboe_get_mtu.
    """
    return next((size for size in _RDMA_MTUS if size <= mtu - _RDMA_HEADERS), 0)


def _cabled(fabric: Fabric, bdf: str) -> Function | Reading:
    """The function, if a cable is in its port; else the reading that says so."""
    function = find(fabric, bdf)
    if function is None:
        return absent(f"PCI function {plain(bdf)} left")
    port = port_of(fabric, function.port or function.bdf)
    if port is not None and not port.is_cabled:
        return absent(no_cable(port))
    return function


def _cabled_rdma(fabric: Fabric, bdf: str) -> RdmaPort | Reading:
    function = _cabled(fabric, bdf)
    if isinstance(function, Reading):
        return function
    return function.rdma if function.rdma is not None else absent(f"{plain(function.name)} has {NO_RDMA}")


def port_state(fabric: Fabric, bdf: str) -> Reading:
    """The state of its RDMA port: `ACTIVE`."""
    function = _cabled(fabric, bdf)
    if isinstance(function, Reading):
        return function
    if function.rdma is None:
        return value(NO_RDMA, f"driver: {plain(function.driver) or 'none bound'}")
    if not function.rdma.state:
        return absent(f"the kernel does not tell the state of {plain(function.rdma.device)}")
    physical = plain(function.rdma.physical)
    return value(plain(function.rdma.state), f"physical state {physical}" if physical else "")


def link_layer(fabric: Fabric, bdf: str) -> Reading:
    """The link layer of its RDMA port: `Ethernet`."""
    port = _cabled_rdma(fabric, bdf)
    if isinstance(port, Reading):
        return port
    if not port.link_layer:
        return absent(f"the kernel does not tell the link layer of {plain(port.device)}")
    return value(plain(port.link_layer))


def link_rate(fabric: Fabric, bdf: str) -> Reading:
    """What its RDMA port runs at, Gb/s. A port without a link has a rate that means nothing."""
    port = _cabled_rdma(fabric, bdf)
    if isinstance(port, Reading):
        return port
    if not port.is_active:
        return absent(f"{plain(port.device)} has no link: its rate means nothing")
    if port.rate_gbps is None:
        return absent(f"the kernel does not tell the rate of {plain(port.device)}")
    return value(round(port.rate_gbps))


def pcie_speed(fabric: Fabric, bdf: str) -> Reading:
    """The speed of its PCIe link in GT/s, as text: `32.0`."""
    function = find(fabric, bdf)
    if function is None:
        return absent(f"PCI function {plain(bdf)} left")
    if function.pcie_gts is None:
        return absent(f"the kernel does not tell the PCIe speed of {plain(bdf)}")
    return value(f"{function.pcie_gts:.1f}")


def pcie_width(fabric: Fabric, bdf: str) -> Reading:
    """How many lanes its PCIe link runs over."""
    function = find(fabric, bdf)
    if function is None:
        return absent(f"PCI function {plain(bdf)} left")
    if function.pcie_width is None:
        return absent(f"the kernel does not tell the PCIe width of {plain(bdf)}")
    return value(function.pcie_width)


def active_mtu(fabric: Fabric, bdf: str, wanted: int = LEAST_RDMA_MTU, shown: str = AT_LEAST) -> Reading:
    """Whether RDMA runs with at least `wanted` bytes; then the value is `shown`, and the detail has the size.

    Derived from the interface's MTU, as the kernel and the driver do: no file tells it.
    """
    function = _cabled(fabric, bdf)
    if isinstance(function, Reading):
        return function
    if function.rdma is None:
        return absent(f"{plain(function.name)} has {NO_RDMA}")
    if function.mtu is None:
        return absent(f"the kernel does not tell the MTU of {plain(function.name)}")
    found = rdma_mtu(function.mtu)
    detail = f"{found}, derived from the interface's MTU {function.mtu}"
    return value(shown if found >= wanted else str(found), detail)


def gid(fabric: Fabric, bdf: str) -> Reading:
    """Whether its GID table has a RoCE v2 entry with an IPv4 address; the detail has index and address."""
    port = _cabled_rdma(fabric, bdf)
    if isinstance(port, Reading):
        return port
    found = port.v2_gid
    if found is not None:
        return value(V2_GID, f"index {found.index}: {plain(found.ipv4)}")
    if not port.gids:
        return value("none", "its GID table is empty")
    kinds = "link-local and IPv6 only" if any(one.is_v2 for one in port.gids) else "RoCE v1 only"
    return value(kinds, f"{len(port.gids)} entries, none of them RoCE v2 with an IPv4 address")
