"""The ConnectX-7 functions of this machine, as far as names and carriers go. Judges no fabric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.fabric.model import Presence

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

VENDOR, DEVICE = "0x15b3", "0x1021"

_MARKER = "/etc/nvidia/cx7-hotplug-enabled"
_PLATFORM = "/sys/bus/platform/devices/MTKP0001:00"
_ENABLED, _STATE = f"{_PLATFORM}/pcie_hotplug/hotplug_enabled", f"{_PLATFORM}/pcie_hotplug/debug_state"


def presence(root: Root) -> Presence:
    """Whether any interface is a ConnectX-7's, and whether hot-plug power management can be why none is."""
    return Presence.PRESENT if ports(root) else find_evidence(root)[0]


def find_evidence(root: Root) -> tuple[Presence, tuple[str, ...]]:
    """Why a machine without any function has none, and the files that say so.

    With the marker, DGX OS (package dgx-spark-mlnx-hotplug) takes the functions away while no cable is in.
    The driver cx7-pcie-hotplug says whether that is switched on (1 or 0), and whether a cable is in (1 or 0);
    its platform device is also there where it is switched off.
    """
    marked, enabled, state = root.exists(_MARKER), root.read(_ENABLED), root.read(_STATE)
    said = tuple(
        f"{name} is {text}" for name, text in ((_ENABLED, enabled), (_STATE, state)) if text in ("0", "1")
    )
    there = tuple(name for name in (_MARKER, _PLATFORM) if root.exists(name)) + said
    is_off = enabled == "0" and not marked
    if not there or is_off or state == "1":
        return Presence.NONE, there
    return Presence.POWERED_DOWN, there


def is_function(root: Root, subsystem: str, name: str) -> bool:
    """Whether a device of the subsystem `net` or `pci` is a ConnectX-7 function; cheap where it is none."""
    device = f"/sys/bus/pci/devices/{name}" if subsystem == "pci" else f"/sys/class/net/{name}/device"
    return root.read(f"{device}/vendor") == VENDOR and root.read(f"{device}/device") == DEVICE


def ports(root: Root) -> tuple[str, ...]:
    """Names of the netdevs that are ConnectX-7 functions."""
    return tuple(name for name in root.names("/sys/class/net") if is_function(root, "net", name))


def has_carrier(root: Root) -> bool:
    """Whether any ConnectX port has a carrier. An interface that is down answers EINVAL: no carrier."""
    return any(root.read(f"/sys/class/net/{name}/carrier") == "1" for name in ports(root))
