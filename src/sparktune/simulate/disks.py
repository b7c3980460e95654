"""The block devices of a simulated machine, what stands on them, and disks that come and go.

The bdi alias of a disk's read-ahead is a hard link: one value behind two names, as in the kernel.
"""

from __future__ import annotations

import re
from dataclasses import field, replace
from typing import TYPE_CHECKING

from sparktune.errors import UsageError
from sparktune.frozen import frozen
from sparktune.simulate.pci import pci_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.simulate.writer import TreeWriter

DEFAULT_READ_AHEAD_KB = 128
"""What current kernels start with; nobody has published what a Spark shows."""
VIRTUAL = "/sys/devices/virtual/block"
SECTORS_PER_GIB = 2_097_152

_LOOP, _SCSI, _ZRAM, _MAPPER, _EXTENDED = 7, 8, 251, 252, 259


@frozen
class Disk:
    """One block device with its partitions.

    Attributes:
        name: `nvme0n1`, `dm-0`.
        parent: the sysfs directory it lies in.
        number: device number; None for a hidden path of a multipath disk, which has none.
        gib: its size.
        partitions: sizes of its partitions in GiB.
        slaves: the disks and partitions it stands on.
        rotational: whether it is a spinning disk.
        scheduler: what `queue/scheduler` shows.
        files: further files, by directory below its own (`dm`) and name.
    """

    name: str
    parent: str
    number: tuple[int, int] | None
    gib: int = 0
    partitions: tuple[int, ...] = ()
    slaves: tuple[str, ...] = ()
    rotational: bool = False
    scheduler: str = "[none] mq-deadline"
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Its own directory."""
        return f"{self.parent}/{self.name}"


@frozen
class Controller:
    """An NVMe controller."""

    name: str
    address: str
    model: str
    serial: str
    firmware: str


def nvme_disk(name: str, *, address: str = "") -> Disk:
    """An NVMe disk where the first one of a GB10 is, or behind another PCI address."""
    controller, namespace = (int(number) for number in re.findall(r"[0-9]+", name)[:2])
    place = address or ("0004:01:00.0" if controller == 0 else f"{0x10 + controller:04x}:01:00.0")
    return Disk(
        name=name,
        parent=f"{pci_path(place)}/nvme/nvme{controller}",
        number=(_EXTENDED, 32 * controller + 8 * (namespace - 1)),
        gib=931,
    )


def hidden_path(disk: Disk) -> tuple[Disk, Disk]:
    """A disk seen through native NVMe multipath: the head that is used, and its hidden path."""
    head = replace(disk, parent="/sys/devices/virtual/nvme-subsystem/nvme-subsys0")
    name = disk.name.replace("n1", "c0n1")
    path = replace(disk, name=name, number=None, partitions=())
    return head, path


def mapped_disk(name: str, *, label: str, uuid: str, slaves: tuple[str, ...], gib: int) -> Disk:
    """A device-mapper device: dm-crypt or LVM, as its uuid says."""
    return Disk(
        name=name,
        parent=VIRTUAL,
        number=(_MAPPER, int(name.removeprefix("dm-"))),
        gib=gib,
        slaves=slaves,
        scheduler="none",
        files={"dm": {"name": label, "uuid": uuid, "suspended": "0"}},
    )


def default_disk(name: str) -> Disk:
    """The disk a name stands for: `nvme1n1`, `sda`, `loop2`, `zram0`. Raises UsageError for another name."""
    if re.fullmatch(r"nvme[0-9]n[1-4]", name):
        return nvme_disk(name)
    if re.fullmatch(r"sd[a-f]", name):
        place = ord(name[2]) - ord("a")
        parent = (
            f"{pci_path('0000:03:00.0')}/ata{place + 1}/host{place}/target{place}:0:0/{place}:0:0:0/block"
        )
        return Disk(
            name=name, parent=parent, number=(_SCSI, 16 * place), gib=1863, scheduler="none [mq-deadline]"
        )
    for prefix, major in (("loop", _LOOP), ("zram", _ZRAM)):
        if match := re.fullmatch(rf"{prefix}([0-9])", name):
            return Disk(name=name, parent=VIRTUAL, number=(major, int(match[1])))
    raise UsageError(
        f"cannot add a disk {name[:40]!r} to the simulated machine",
        hint="names it knows: nvme1n1, sda, loop2, zram0",
    )


def build_controller(writer: TreeWriter, controller: Controller) -> None:
    """Make an NVMe controller below its PCI device, and its link in /sys/class/nvme."""
    device = pci_path(controller.address)
    directory = f"{device}/nvme/{controller.name}"
    writer.write(
        directory,
        {
            "model": f"{controller.model:<40}",
            "serial": f"{controller.serial:<20}",
            "firmware_rev": controller.firmware,
            "state": "live",
            "transport": "pcie",
            "address": controller.address,
            "cntlid": 1,
        },
    )
    writer.link(f"{directory}/device", device)
    writer.link(f"/sys/class/nvme/{controller.name}", directory)


def build_disk(writer: TreeWriter, disk: Disk, *, sequence: int) -> None:
    """Make a disk with its partitions, queue, bdi, class links, and its place above its slaves.

    Args:
        writer: of the tree.
        disk: what it is.
        sequence: its diskseq; a disk that was taken out and put back gets a higher one.
    """
    directory = disk.directory
    writer.write(directory, _disk_files(disk, sequence))
    for name in ("holders", "slaves"):
        writer.make_directory(f"{directory}/{name}")
    for name, files in disk.files.items():
        writer.write(f"{directory}/{name}", files)
    _write_queue(writer, disk)
    _join_classes(writer, disk.name, directory, disk.number)
    writer.link(f"/sys/block/{disk.name}", directory)
    if "/nvme/" in disk.parent:
        writer.link(f"{directory}/device", disk.parent)
    if disk.number is not None:
        _build_bdi(writer, disk, disk.number)
        _build_partitions(writer, disk, disk.number)
    for slave in disk.slaves:
        lower = writer.resolve(f"/sys/class/block/{slave}")
        writer.link(f"{directory}/slaves/{slave}", lower)
        writer.link(f"{lower}/holders/{disk.name}", directory)


def remove_disk(writer: TreeWriter, name: str) -> None:
    """Take a disk out: its links first, then its directories. What stood on it is left with nothing below.

    Raises:
        UsageError: there is no such disk.
    """
    if name not in writer.names("/sys/block"):
        raise UsageError(
            f"the simulated machine has no disk {name[:40]!r}",
            hint=f"it has {', '.join(writer.names('/sys/block'))}",
        )
    directory = writer.resolve(f"/sys/block/{name}")
    entries = [entry for entry in writer.names(directory) if entry.startswith(name)]
    for entry in (*(f"{directory}/{partition}" for partition in entries), directory):
        number = writer.read(f"{entry}/dev") if writer.exists(f"{entry}/dev") else ""
        writer.remove(f"/sys/class/block/{entry.rpartition('/')[2]}")
        if number:
            writer.remove(f"/sys/dev/block/{number}")
        if number and entry == directory:
            writer.remove(f"/sys/class/bdi/{number}")
            writer.remove(f"/sys/devices/virtual/bdi/{number}")
    for slave in writer.names(f"{directory}/slaves"):
        holder = f"{writer.resolve(f'{directory}/slaves/{slave}')}/holders/{name}"
        if writer.exists(holder):  # what it stood on may have been taken out first
            writer.remove(holder)
    writer.remove(f"/sys/block/{name}")
    writer.remove(directory)


def build_bdi(writer: TreeWriter, number: str) -> str:
    """Make a backing device without its read_ahead_kb, and its class link; gives its directory."""
    directory = f"/sys/devices/virtual/bdi/{number}"
    writer.write(directory, {"min_ratio": 0, "max_ratio": 100, "strict_limit": 0, "stable_pages_required": 0})
    writer.link(f"/sys/class/bdi/{number}", directory)
    return directory


def _build_bdi(writer: TreeWriter, disk: Disk, number: tuple[int, int]) -> None:
    backing = build_bdi(writer, f"{number[0]}:{number[1]}")
    writer.alias(f"{backing}/read_ahead_kb", f"{disk.directory}/queue/read_ahead_kb")
    writer.link(f"{disk.directory}/bdi", backing)


def _disk_files(disk: Disk, sequence: int) -> dict[str, str | int]:
    """The files of the disk itself. A hidden one has no device number (block/genhd.c)."""
    files: dict[str, str | int] = {
        "diskseq": sequence,
        "hidden": int(disk.number is None),
        "size": disk.gib * SECTORS_PER_GIB,
        "ro": 0,
        "removable": 0,
        "range": 0 if disk.name.startswith("nvme") else 16,
        "uevent": f"DEVNAME={disk.name}\nDEVTYPE=disk\nDISKSEQ={sequence}",
    }
    if disk.number is not None:
        major, minor = disk.number
        files["dev"] = f"{major}:{minor}"
        files["uevent"] = f"MAJOR={major}\nMINOR={minor}\n{files['uevent']}"
    return files


def _write_queue(writer: TreeWriter, disk: Disk) -> None:
    writer.write(
        f"{disk.directory}/queue",
        {
            "read_ahead_kb": DEFAULT_READ_AHEAD_KB,
            "max_sectors_kb": 128 if disk.rotational else 256,
            "max_hw_sectors_kb": 32767 if disk.rotational else 256,
            "scheduler": disk.scheduler,
            "rotational": int(disk.rotational),
            "nr_requests": 1023,
            "logical_block_size": 512,
            "physical_block_size": 4096 if disk.rotational else 512,
            "optimal_io_size": 0,
        },
    )


def _join_classes(writer: TreeWriter, name: str, directory: str, number: tuple[int, int] | None) -> None:
    writer.link(f"/sys/class/block/{name}", directory)
    writer.link(f"{directory}/subsystem", "/sys/class/block")
    if number is not None:
        writer.link(f"/sys/dev/block/{number[0]}:{number[1]}", directory)


def _build_partitions(writer: TreeWriter, disk: Disk, number: tuple[int, int]) -> None:
    major, first = number
    start = 2048
    for index, gib in enumerate(disk.partitions, start=1):
        name = f"{disk.name}p{index}" if disk.name[-1].isdigit() else f"{disk.name}{index}"
        directory = f"{disk.directory}/{name}"
        files: dict[str, str | int] = {
            "partition": index,
            "start": start,
            "size": gib * SECTORS_PER_GIB,
            "ro": 0,
            "dev": f"{major}:{first + index}",
            "uevent": f"MAJOR={major}\nMINOR={first + index}\nDEVNAME={name}\nDEVTYPE=partition",
        }
        writer.write(directory, files)
        writer.make_directory(f"{directory}/holders")
        _join_classes(writer, name, directory, (major, first + index))
        start += gib * SECTORS_PER_GIB
