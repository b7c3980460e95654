"""What must hold of the twins of a port, and of all functions: pure, from the fabric to a reading."""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING

from sparktune.fabric.checks import absent, find, no_cable, port_of, value
from sparktune.fabric.naming import listed
from sparktune.model import Reading
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.fabric.model import Fabric, Function, Port

BOTH_UP = "both up"
EQUAL = "equal"
APART = "one subnet each"
NOT_ALONE = "not on one twin alone"
OWN_ADDRESSES = "1 or 2"
ANNOUNCE_BEST = 2

_ZEROCONF = "169.254."
_MASK = 0xFFFFFFFF
_ADDRESS = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?:/([0-9]{1,2}))?")


def _cabled(fabric: Fabric, name: str) -> Port | Reading:
    port = port_of(fabric, name)
    if port is None:
        return absent(f"port {plain(name)} left")
    return port if port.is_cabled else absent(no_cable(port))


def up(fabric: Fabric, name: str) -> Reading:
    """Whether every twin of a port that has a cable is up."""
    port = _cabled(fabric, name)
    if isinstance(port, Reading):
        return port
    if len(port.functions) < 2:  # noqa: PLR2004 - twins are two
        return value("no twin", f"{plain(port.functions[0].name)} is alone on port {plain(name)}")
    down = [one for one in port.functions if not one.is_up]
    if not down:
        return value(BOTH_UP, listed(one.name for one in port.functions))
    return value(f"{listed(one.name for one in down)} down", "; ".join(_why_down(one) for one in down))


def _why_down(function: Function) -> str:
    name = plain(function.name)
    if not function.netdev:
        return f"{name} has no network interface"
    if function.carrier is None:
        return f"{name} is switched off (administratively down)"
    if not function.carrier:
        return f"{name} has no carrier, its twin has"
    state = function.rdma.state if function.rdma else ""
    return f"{name} has a carrier, its RDMA port is {plain(state) or 'in a state the kernel does not tell'}"


def mtu(fabric: Fabric, name: str) -> Reading:
    """Whether the twins of a port have the same MTU."""
    port = _cabled(fabric, name)
    if isinstance(port, Reading):
        return port
    known = [(one, one.mtu) for one in port.functions if one.mtu is not None]
    if len(known) < 2:  # noqa: PLR2004 - twins are two
        return absent(f"the MTUs of two twins are needed, {len(known)} known")
    sizes = sorted({size for _, size in known})
    detail = ", ".join(f"{plain(one.name)} {size}" for one, size in known)
    return value(EQUAL if len(sizes) == 1 else " and ".join(map(str, sizes)), detail)


def subnets(fabric: Fabric, name: str) -> Reading:
    """Whether the twins of a port have their IPv4 addresses in different subnets."""
    port = _cabled(fabric, name)
    if isinstance(port, Reading):
        return port
    addressed = [one for one in port.functions if one.addresses]
    if len(addressed) < 2:  # noqa: PLR2004 - twins are two
        return absent(f"IPv4 addresses on two twins are needed, {len(addressed)} have one")
    shared = share_subnet(port)
    detail = ", ".join(f"{plain(one.name)} {' '.join(map(plain, one.addresses))}" for one in addressed)
    return value(f"both in {shared}" if shared else APART, detail)


def share_subnet(port: Port) -> str:
    """A subnet that two twins have an address in: `192.168.100.0/24`; empty if there is none."""
    for first, second in combinations(port.functions, 2):
        for one in first.addresses:
            for other in second.addresses:
                if found := _common(one, other):
                    return found
    return ""


def _common(one: str, other: str) -> str:
    """The wider of the subnets of two addresses, if the other lies in it."""
    first, second = _parse(one), _parse(other)
    if first is None or second is None:
        return ""
    prefix = min(first[1], second[1])
    mask = _MASK << (32 - prefix) & _MASK
    network = first[0] & mask
    if network != second[0] & mask:
        return ""
    return f"{'.'.join(str(network >> shift & 255) for shift in (24, 16, 8, 0))}/{prefix}"


def _parse(address: str) -> tuple[int, int] | None:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return None
    octets, length = [int(one) for one in found.groups()[:4]], int(found[5] or 32)
    number = 0
    for one in octets:
        number = number << 8 | one
    return (number, length) if max(octets) < 256 and length <= 32 else None  # noqa: PLR2004 - IPv4


def zeroconf(fabric: Fabric, name: str) -> Reading:
    """Whether a 169.254 address is on every twin or on none: on one alone the GID tables differ."""
    port = _cabled(fabric, name)
    if isinstance(port, Reading):
        return port
    alone = [one for one in port.functions if _only_zeroconf(one)]
    detail = ", ".join(
        f"{plain(one.name)} {' '.join(map(plain, one.addresses)) or 'without an IPv4 address'}"
        for one in port.functions
    )
    if not alone or len(alone) == len(port.functions):
        return value(NOT_ALONE, detail)
    return value(f"on {listed(one.name for one in alone)} alone", detail)


def _only_zeroconf(function: Function) -> bool:
    return bool(function.addresses) and all(one.startswith(_ZEROCONF) for one in function.addresses)


def firmware(fabric: Fabric) -> Reading:
    """Whether all functions run the same firmware."""
    known = [(one, one.firmware) for one in fabric.functions if one.firmware]
    if not known:
        return absent("the kernel does not tell the firmware of any function")
    versions = sorted({version for _, version in known})
    if len(versions) == 1:
        return value(EQUAL, plain(versions[0]))
    detail = ", ".join(f"{plain(one.name)} {plain(version)}" for one, version in known)
    return value(" and ".join(map(plain, versions)), detail)


def arp_ignore(fabric: Fabric, bdf: str) -> Reading:
    """Whether an interface answers ARP only for its own addresses, where its twin is in the same subnet."""
    function = _sharing(fabric, bdf)
    if isinstance(function, Reading):
        return function
    if function.arp_ignore is None:
        return absent(f"arp_ignore of {plain(function.name)} cannot be read")
    found = function.arp_ignore
    return value(OWN_ADDRESSES if str(found) in OWN_ADDRESSES else str(found), f"{found} is in force")


def arp_announce(fabric: Fabric, bdf: str) -> Reading:
    """How an interface chooses the address it announces, where its twin is in the same subnet."""
    function = _sharing(fabric, bdf)
    if isinstance(function, Reading):
        return function
    if function.arp_announce is None:
        return absent(f"arp_announce of {plain(function.name)} cannot be read")
    return value(function.arp_announce)


def _sharing(fabric: Fabric, bdf: str) -> Function | Reading:
    """The function, if it shares a subnet with its twin; else why ARP is no matter."""
    function = find(fabric, bdf)
    if function is None:
        return absent(f"PCI function {plain(bdf)} left")
    port = _cabled(fabric, function.port or bdf)
    if isinstance(port, Reading):
        return port
    if not share_subnet(port):
        return absent("the twins share no subnet, so the usual ARP does no harm")
    return function
