"""The `roce` area, its first part: the RoCE mode that RDMA-CM programs get by default.

It acts on programs that use RDMA-CM. NCCL does not, so nothing here says whether RoCE works for NCCL.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.identity import identify_directory
from sparktune.model import Policy, Tunable
from sparktune.tunables.area import Area, Discovery, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.model import Note
    from sparktune.settings import Settings

AREA = "roce"

_DEVICES = "/sys/class/infiniband"
_CONFIGFS = "/sys/kernel/config"
_RDMA_CM = f"{_CONFIGFS}/rdma_cm"
_WHY = "RDMA-CM programs that name no mode get RoCE v2, which is routed and what a Spark's GID table offers."
_SOURCE = "kernel: Documentation/ABI/testing/configfs-rdma_cm"
_RISK = "Programs that need RoCE v1 must ask for it. NCCL is not affected: it does not use RDMA-CM."


def discover(host: Host, settings: Settings, device: str | None = None) -> Discovery:
    """The default RoCE mode of each port of each selected RDMA device."""
    root, wanted = host.root, settings.roce
    devices = [name for name in root.names(_DEVICES) if _is_selected(name, wanted.devices)]
    reason = _absence(root, devices)
    if reason:
        return Discovery(tunables=(), absent=reason)
    tunables = [
        _tunable(root, name, port, wanted.default_roce_mode)
        for name in devices
        for port in root.names(f"{_DEVICES}/{name}/ports")
        if root.read(f"{_DEVICES}/{name}/ports/{port}/link_layer") != "InfiniBand"
    ]
    return Discovery(
        tunables=tuple(tunables), absent="" if tunables else "no port of an RDMA device is Ethernet"
    )


def _absence(root: Root, devices: Sequence[str]) -> str:
    if not root.names(_DEVICES):
        return "no RDMA device here; DGX OS powers the ConnectX-7 down while no QSFP cable is plugged in"
    if not devices:
        return f"none of {', '.join(root.names(_DEVICES))} is selected by roce.devices"
    if not root.exists(_CONFIGFS):
        return "this kernel has no configfs"
    if not root.exists(_RDMA_CM):
        return f"{_RDMA_CM} is not there: rdma_cm is not loaded, or configfs not mounted (modprobe rdma_cm)"
    return ""


def _is_selected(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _tunable(root: Root, name: str, port: str, mode: str) -> Tunable:
    attribute = FileAttribute(
        root,
        f"{_RDMA_CM}/{name}/ports/{port}/default_roce_mode",
        identity=identify_directory(root, f"{_DEVICES}/{name}"),
        codec="text",
        makes=f"{_RDMA_CM}/{name}",
    )
    suffix = "" if port == "1" else f"_{port}"
    return Tunable(
        id=f"{AREA}.{name}.default_roce_mode{suffix}",
        area=AREA,
        device=name,
        attribute=attribute,
        wanted=mode,
        why=_WHY,
        source=_SOURCE,
        risk=_RISK,
        key="roce.default_roce_mode",
    )


def observe(host: Host, settings: Settings) -> tuple[Note, ...]:
    """Nothing beside the tunables."""
    return ()


def inventory(host: Host, settings: Settings) -> object:
    """Which RDMA devices there are, and whether rdma_cm is loaded."""
    return host.root.inodes(_DEVICES), host.root.exists(_RDMA_CM)


def say(host: Host, settings: Settings, views: Sequence[View]) -> str:
    """What holds, and what that does not mean."""
    holding = sum(view.reading.value == view.tunable.wanted for view in views)
    mode = settings.roce.default_roce_mode
    return f"RDMA-CM default mode {mode} on {holding} of {len(views)} ports; says nothing about NCCL"


def policy(settings: Settings) -> Policy:
    """The configured policy."""
    return settings.roce.policy


AREA_ROCE = Area(
    name=AREA,
    subsystems=("infiniband", "net"),
    policy=policy,
    discover=discover,
    observe=observe,
    inventory=inventory,
    say=say,
)
