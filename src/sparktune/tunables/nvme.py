"""The `nvme` area: read-ahead of the disks that models are loaded from, and of everything stacked on them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.identity import identify_directory, identify_disk
from sparktune.kernel.mounts import device_of, read_table
from sparktune.model import Note, Policy, Tunable
from sparktune.tunables.area import Area, Discovery, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.settings import Settings

AREA = "nvme"
LARGE_KB = 16384
_SHOWN = 4

_PATIENCE_S = 5.0
"""Longer than a busy machine takes from the first to the last step of a removal. A mapped device lets go of
what it stood on, its bdi is told to be removed, and only then it leaves /sys/block. Source: kernel,
6.1.15, drivers/md/dm.c, __dm_destroy; block/genhd.c, del_gendisk."""

_WHY = "Sequential loading of model files waits less for the disk when the kernel reads further ahead."
_SOURCE = "kernel: Documentation/ABI/stable/sysfs-block, queue/read_ahead_kb; the value is the users' advice"
_RISK = (
    "Small random reads fetch more than they use. No comparison on a Spark has been published. "
    "Files that are open already keep the value they were opened with."
)
_STACKED = re.compile(r"(dm-|md)[0-9]+")
_NUMBER = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")


def discover(host: Host, settings: Settings, device: str | None = None) -> Discovery:
    """Read-ahead of each selected disk, of what stands on it, and of whatever serves the configured paths."""
    root, wanted = host.root, settings.nvme
    disks = [name for name in root.names("/sys/block") if _is_selected(root, name, wanted.devices)]
    names = dict.fromkeys(disks)
    if wanted.stacked:
        for disk in disks:
            names |= dict.fromkeys(stacked_on(root, disk))
    value = kernel_value(wanted.read_ahead_kb, host.page_size_kib)
    tunables = {name: _of_disk(root, name, value) for name in names}
    notes = list(_notes(host, settings))
    for path in wanted.paths:
        _add_path(root, path, value, tunables, notes)
    absent = "" if tunables else f"no disk here matches {', '.join(wanted.devices) or 'an empty list'}"
    return Discovery(tunables=tuple(tunables.values()), absent=absent, notes=tuple(notes))


def kernel_value(read_ahead_kb: int, page_size_kib: int) -> int:
    """What the kernel keeps of a value: it counts read-ahead in whole pages and rounds down."""
    return read_ahead_kb - read_ahead_kb % page_size_kib


def stacked_on(root: Root, disk: str) -> Iterator[str]:
    """Every dm-crypt, LVM and md device on a disk or one of its partitions, at any depth."""
    seen: set[str] = set()
    waiting = [disk]
    while waiting:
        for holder in _holders(root, waiting.pop()):
            if holder not in seen and _STACKED.fullmatch(holder):
                seen.add(holder)
                waiting.append(holder)
                yield holder


def _holders(root: Root, disk: str) -> Iterator[str]:
    yield from root.names(f"/sys/block/{disk}/holders")
    for name in root.names(f"/sys/block/{disk}"):
        if root.exists(f"/sys/block/{disk}/{name}/partition"):
            yield from root.names(f"/sys/block/{disk}/{name}/holders")


def _is_selected(root: Root, name: str, globs: Sequence[str]) -> bool:
    if not any(fnmatchcase(name, glob) for glob in globs):
        return False
    return root.read(f"/sys/block/{name}/hidden") != "1"  # multipath's per-path nodes


def _of_disk(root: Root, name: str, value: int) -> Tunable:
    number = root.read(f"/sys/block/{name}/dev") or ""
    attribute = FileAttribute(
        root,
        f"/sys/block/{name}/queue/read_ahead_kb",
        identity=identify_disk(root, f"/sys/block/{name}"),
        aliases=(f"/sys/class/bdi/{number}/read_ahead_kb",) if _NUMBER.fullmatch(number) else (),
    )
    return _tunable(name, attribute, value)


def _of_bdi(root: Root, number: str, value: int) -> Tunable:
    name = f"/sys/class/bdi/{number}"
    identity = identify_directory(root, name)
    return _tunable(f"bdi-{number}", FileAttribute(root, f"{name}/read_ahead_kb", identity=identity), value)


def _tunable(device: str, attribute: FileAttribute, value: int) -> Tunable:
    return Tunable(
        id=f"{AREA}.{device}.read_ahead_kb",
        area=AREA,
        device=device,
        attribute=attribute,
        wanted=value,
        unit="KiB",
        why=_WHY,
        source=_SOURCE,
        risk=_RISK,
        key="nvme.read_ahead_kb",
    )


def _add_path(root: Root, path: str, value: int, tunables: dict[str, Tunable], notes: list[Note]) -> None:
    number = device_of(root, path)
    if number is None:
        notes.append(
            Note(area=AREA, level="warning", says=f"{path}: not mounted here", do="check nvme.paths")
        )
        return
    disk = _disk_of(root, number)
    if disk is not None:
        tunables.setdefault(disk, _of_disk(root, disk, value))
    elif root.exists(f"/sys/class/bdi/{number}"):
        tunables.setdefault(f"bdi-{number}", _of_bdi(root, number, value))
    else:
        says = f"{path}: its file system ({number}) has no read-ahead of its own under /sys/class/bdi"
        notes.append(Note(area=AREA, level="warning", says=says, do="name the disk in nvme.devices instead"))


def _disk_of(root: Root, number: str) -> str | None:
    resolved = root.resolve(f"/sys/dev/block/{number}")
    if not root.exists(f"/sys/dev/block/{number}"):
        return None
    if root.exists(f"{resolved}/partition"):
        resolved = resolved.rpartition("/")[0]
    return resolved.rpartition("/")[2]


def _notes(host: Host, settings: Settings) -> Iterator[Note]:
    asked = settings.nvme.read_ahead_kb
    kept = kernel_value(asked, host.page_size_kib)
    if kept != asked:
        says = f"this kernel counts read-ahead in pages of {host.page_size_kib} KiB: {asked} becomes {kept}"
        yield Note(area=AREA, level="info", says=says)
    if asked > LARGE_KB:
        says = (
            f"read_ahead_kb = {asked} is above {LARGE_KB}: every random read may fetch that much; "
            "64 MiB made random reads 50 to 500 times slower elsewhere (Azure/azure-vm-utils#99)"
        )
        yield Note(
            area=AREA, level="warning", says=says, do="1024 to 8192 is defensible; measure before more"
        )


def observe(host: Host, settings: Settings) -> tuple[Note, ...]:
    """Nothing beside the tunables."""
    return ()


def inventory(host: Host, settings: Settings) -> object:
    """What, when it changes, calls for a new discovery even if no event was seen."""
    root = host.root
    mounts = read_table(root) if settings.nvme.paths else b""
    disks = root.inodes("/sys/block")
    stacked = [name for name, _ in disks if settings.nvme.stacked and _STACKED.fullmatch(name)]
    return disks, [root.names(f"/sys/block/{name}/slaves") for name in stacked], mounts


def say(host: Host, settings: Settings, views: Sequence[View]) -> str:
    """`read_ahead_kb 8192 on nvme0n1, dm-0`."""
    holding = [view.tunable.device for view in views if view.reading.value == view.tunable.wanted]
    value = kernel_value(settings.nvme.read_ahead_kb, host.page_size_kib)
    if not holding:
        return f"read_ahead_kb {value} holds nowhere"
    shown = ", ".join(holding[:_SHOWN])
    if len(holding) > _SHOWN:
        shown += f" and {len(holding) - _SHOWN} more"
    return f"read_ahead_kb {value} on {shown}"


def policy(settings: Settings) -> Policy:
    """The configured policy."""
    return settings.nvme.policy


AREA_NVME = Area(
    name=AREA,
    subsystems=("block", "bdi", "nvme"),
    policy=policy,
    discover=discover,
    observe=observe,
    inventory=inventory,
    say=say,
    patience_s=_PATIENCE_S,
)
