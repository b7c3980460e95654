"""The RDMA-CM part of the `roce` area: what programs that connect through RDMA-CM get by default.

It acts on those programs only. NCCL is none of them, so nothing here says whether RoCE works for NCCL.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.fabric.naming import shell_word
from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.identity import identify_directory
from sparktune.model import Note, ReadingKind, Tunable
from sparktune.tunables.area import Discovery, View
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.fabric.model import Fabric
    from sparktune.hardware import Host
    from sparktune.kernel.attribute import Codec
    from sparktune.kernel.root import Root
    from sparktune.settings import Settings

AREA = "roce"
DEVICES = "/sys/class/infiniband"
CONFIGFS = "/sys/kernel/config"
RDMA_CM = f"{CONFIGFS}/rdma_cm"

_MODE, _TOS = "default_roce_mode", "default_roce_tos"
_WHY = "RDMA-CM programs that name no mode get RoCE v2, which is routed and what a Spark's GID table offers."
_TOS_WHY = "RDMA-CM connections that name no ToS get this DSCP, by which a switch knows them as RoCE."
_SOURCE = "kernel: Documentation/ABI/testing/configfs-rdma_cm"
_TOS_RISK = (
    "Where nothing on the way is set up for it, it does nothing, or lands in a queue that drops first. "
    "NCCL is not affected: it does not use RDMA-CM."
)
_RISK = "Programs that need RoCE v1 must ask for it. NCCL is not affected: it does not use RDMA-CM."


def declare(host: Host, settings: Settings, fabric: Fabric) -> Discovery:
    """The default RoCE mode, and ToS if asked for, of each port of each selected RDMA device."""
    root, wanted = host.root, settings.roce
    devices = [name for name in root.names(DEVICES) if _is_selected(name, wanted.devices)]
    reason = _absence(root, devices)
    if reason:
        note = Note(area=AREA, level="info", says=f"RDMA-CM defaults are not held: {reason}")
        return Discovery(tunables=(), absent=reason, notes=(note,) if devices else ())
    ports = [
        (name, port)
        for name in devices
        for port in root.names(f"{DEVICES}/{name}/ports")
        if root.read(f"{DEVICES}/{name}/ports/{port}/link_layer") != "InfiniBand"
    ]
    tunables = [_mode(root, name, port, wanted.default_roce_mode) for name, port in ports]
    if wanted.default_roce_tos != "off":
        tunables += [_tos(root, name, port, wanted.default_roce_tos) for name, port in ports]
    return Discovery(
        tunables=tuple(tunables), absent="" if tunables else "no port of an RDMA device is Ethernet"
    )


def _absence(root: Root, devices: Sequence[str]) -> str:
    if not root.names(DEVICES):
        return "no RDMA device here"
    if not devices:
        return f"none of {', '.join(root.names(DEVICES))} is selected by roce.devices"
    if not root.exists(CONFIGFS):
        return "this kernel has no configfs"
    if not root.exists(RDMA_CM):
        return f"{RDMA_CM} is not there: rdma_cm is not loaded, or configfs not mounted (modprobe rdma_cm)"
    return ""


def _is_selected(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _mode(root: Root, name: str, port: str, mode: str) -> Tunable:
    return Tunable(
        id=_id(name, port, _MODE),
        area=AREA,
        device=name,
        attribute=_attribute(root, name, port, _MODE, "text"),
        wanted=mode,
        why=_WHY,
        source=_SOURCE,
        risk=_RISK,
        key=f"roce.{_MODE}",
        interfaces=(name,),
    )


def _tos(root: Root, name: str, port: str, tos: int) -> Tunable:
    return Tunable(
        id=_id(name, port, _TOS),
        area=AREA,
        device=name,
        attribute=_attribute(root, name, port, _TOS, "integer"),
        wanted=tos,
        why=_TOS_WHY,
        source=_SOURCE,
        risk=_TOS_RISK,
        key=f"roce.{_TOS}",
        interfaces=(name,),
    )


def _id(name: str, port: str, value: str) -> str:
    return f"{AREA}.{name}.{value}" + ("" if port == "1" else f"_{port}")


def _attribute(root: Root, name: str, port: str, value: str, codec: Codec) -> FileAttribute:
    return FileAttribute(
        root,
        f"{RDMA_CM}/{name}/ports/{port}/{value}",
        identity=identify_directory(root, f"{DEVICES}/{name}"),
        codec=codec,
        makes=f"{RDMA_CM}/{name}",
    )


def say(views: Sequence[View]) -> str:
    """What holds, and what that does not mean; empty if there is nothing of this part."""
    modes = [view for view in views if view.tunable.key == f"roce.{_MODE}"]
    if not modes:
        return ""
    holding = sum(view.reading.value == view.tunable.wanted for view in modes)
    mode = modes[0].tunable.wanted
    return f"RDMA-CM default mode {mode} on {holding} of {len(modes)} ports (NCCL does not ask it)"


def remark(views: Sequence[View]) -> tuple[Note, ...]:
    """Directories in configfs whose device left, or came back without them knowing."""
    stale = {
        view.tunable.attribute.makes: None
        for view in views
        if view.tunable.attribute.makes
        and view.reading.kind is ReadingKind.ABSENT
        and ("ENODEV" in view.reading.reason or "ENXIO" in view.reading.reason)
    }
    return tuple(
        Note(
            area=AREA,
            level="info",
            says=f"{plain(place, most=200)} is of a device that left: nothing in it can be read or set",
            do=f"sudo rmdir {shell_word(place)}; sparktune makes it anew when the device is there",
        )
        for place in stale
    )
