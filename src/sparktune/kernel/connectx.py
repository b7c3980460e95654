"""The ConnectX-7 functions of this machine, as far as names and carriers go. Judges no fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

VENDOR, DEVICE = "0x15b3", "0x1021"


def ports(root: Root) -> tuple[str, ...]:
    """Names of the netdevs that are ConnectX-7 functions."""
    found = []
    for name in root.names("/sys/class/net"):
        device = f"/sys/class/net/{name}/device"
        if root.read(f"{device}/vendor") == VENDOR and root.read(f"{device}/device") == DEVICE:
            found.append(name)
    return tuple(found)


def has_carrier(root: Root) -> bool:
    """Whether any ConnectX port has a carrier. An interface that is down answers EINVAL: no carrier."""
    return any(root.read(f"/sys/class/net/{name}/carrier") == "1" for name in ports(root))
