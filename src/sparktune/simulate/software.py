"""What firmware, kernel and distribution of a simulated machine say about themselves: DMI, /proc and /etc."""

from __future__ import annotations

import struct
import uuid
from dataclasses import field
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.simulate.disks import DEFAULT_READ_AHEAD_KB, build_bdi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparktune.simulate.writer import TreeWriter

FILES_IN_ETC = ("os-release", "hostname", "dgx-release", "nvidia")
"""What is made in /etc, and all that is removed there when a tree is built again."""

_OUT_OF_TREE = ("nvidia",)
_SHARED = 1000
"""Mount ids of what is mounted later begin here."""
_AUXILIARY = {"hwcap": 16, "page size": 6, "clock tick": 17, "uid": 11}
"""Keys of the auxiliary vector, getauxval(3)."""
_PSEUDO_MOUNTS = (
    ("0:23", "/sys", "sysfs", "sysfs"),
    ("0:24", "/proc", "proc", "proc"),
    ("0:5", "/dev", "devtmpfs", "udev"),
    ("0:25", "/run", "tmpfs", "tmpfs"),
    ("0:29", "/sys/fs/cgroup", "cgroup2", "cgroup2"),
    ("0:36", "/sys/kernel/config", "configfs", "configfs"),
)
_OS_RELEASE = """\
PRETTY_NAME="Ubuntu 24.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
"""
_DGX_RELEASE = """\
DGX_NAME="DGX Spark"
DGX_PRETTY_NAME="NVIDIA DGX Spark"
DGX_SWBUILD_VERSION="7.2.3"
DGX_OTA_VERSION="7.4.0"
"""


@frozen
class Mount:
    """A file system on a block device."""

    number: str
    point: str
    kind: str
    source: str


@frozen
class Software:
    """What runs on the machine.

    Attributes:
        firmware: DMI strings by the name of their file.
        kernel: its release.
        architecture: as uname says.
        page_size: in bytes.
        host_name: its short name.
        is_dgx_os: whether /etc/dgx-release and the hot-plug switch are there.
        modules: what is loaded.
        mounts: file systems on block devices, the root first.
        files: text of further files, by the host's names for them.
        links: what further links lead to, by the host's names.
    """

    firmware: Mapping[str, str]
    kernel: str
    architecture: str = "aarch64"
    page_size: int = 4096
    host_name: str
    is_dgx_os: bool = True
    modules: tuple[str, ...]
    mounts: tuple[Mount, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def build_software(writer: TreeWriter, software: Software) -> None:
    """Make DMI, /proc, /etc and configfs."""
    writer.write("/sys/devices/virtual/dmi/id", software.firmware)
    writer.link("/sys/class/dmi/id", "/sys/devices/virtual/dmi/id")
    _build_kernel(writer, software)
    _build_mounts(writer, software.mounts)
    writer.write("/etc", {"os-release": _OS_RELEASE.encode(), "hostname": software.host_name})
    if software.is_dgx_os:
        writer.write("/etc", {"dgx-release": _DGX_RELEASE.encode()})
        writer.write("/etc/nvidia", {"cx7-hotplug-enabled": b""})
        switch = "/sys/devices/platform/MTKP0001:00"
        writer.make_directory(f"{switch}/pcie_hotplug")
        writer.link("/sys/bus/platform/devices/MTKP0001:00", switch)
    writer.make_directory("/sys/kernel/config")
    for module in software.modules:
        _build_module(writer, module)
    if "rdma_cm" in software.modules:
        writer.make_directory("/sys/kernel/config/rdma_cm")
    for name, text in software.files.items():
        directory, _, file = name.rpartition("/")
        writer.write(directory, {file: text.rstrip("\n")})
    for name, target in software.links.items():
        writer.link(name, target)


def add_nfs(writer: TreeWriter, mount_point: str, number: int) -> None:
    """Mount a file system without a disk: a bdi of its own, a line in mountinfo, the mount point."""
    device = f"0:{number}"
    directory = build_bdi(writer, device)
    writer.write(directory, {"read_ahead_kb": DEFAULT_READ_AHEAD_KB})
    writer.make_directory(mount_point)
    point = _escape(mount_point)
    options = "rw,relatime,vers=4.2,rsize=1048576,wsize=1048576,hard,proto=tcp"
    writer.append(
        "/proc/self/mountinfo",
        f"{_SHARED + number} 1 {device} / {point} rw,relatime shared:{number} - nfs4 store:/models {options}",
    )
    writer.append("/proc/self/mounts", f"store:/models {point} nfs4 {options} 0 0")


def _build_kernel(writer: TreeWriter, software: Software) -> None:
    writer.write(
        "/proc/sys/kernel",
        {
            "hostname": software.host_name,
            "osrelease": software.kernel,
            "ostype": "Linux",
            "arch": software.architecture,
        },
    )
    writer.write("/proc/sys/kernel/random", {"boot_id": str(uuid.uuid4())})
    modules = (f"{module} 65536 1 - Live 0x0000000000000000" for module in software.modules)
    source = software.mounts[0].source
    writer.write(
        "/proc",
        {
            "cmdline": f"BOOT_IMAGE=/boot/vmlinuz-{software.kernel} root={source} ro quiet splash",
            "meminfo": "MemTotal:       125508468 kB\nMemFree:        98765432 kB\n"
            "MemAvailable:   118000000 kB\nSwapTotal:      16777212 kB\nSwapFree:       16777212 kB",
            "modules": "\n".join(modules),
            "uptime": "1234.56 23456.78",
            "version": f"Linux version {software.kernel} (simulated) #1 SMP PREEMPT_DYNAMIC",
        },
    )
    values = {"hwcap": 0x3FF, "page size": software.page_size, "clock tick": 100, "uid": 0}
    pairs = [(_AUXILIARY[name], value) for name, value in values.items()]
    writer.write("/proc/self", {"auxv": b"".join(struct.pack("<QQ", *pair) for pair in (*pairs, (0, 0)))})


def _build_module(writer: TreeWriter, module: str) -> None:
    """A loaded module, a driver's with its link. Only one that is no part of the kernel taints it: `O`."""
    taint = "OE" if module in _OUT_OF_TREE else b"\n"
    writer.write(f"/sys/module/{module}", {"initstate": "live", "refcnt": 1, "taint": taint})
    driver = f"/sys/bus/pci/drivers/{module}"
    if writer.exists(driver):
        writer.link(f"{driver}/module", f"/sys/module/{module}")


def _build_mounts(writer: TreeWriter, mounts: tuple[Mount, ...]) -> None:
    root, *others = mounts
    information = [f"1 0 {root.number} / / rw,relatime shared:1 - {root.kind} {root.source} rw"]
    table = [f"{root.source} / {root.kind} rw,relatime 0 0"]
    rest = [*_PSEUDO_MOUNTS, *((each.number, each.point, each.kind, each.source) for each in others)]
    for place, (number, point, kind, source) in enumerate(rest, start=24):
        information.append(f"{place} 1 {number} / {point} rw,relatime shared:{place} - {kind} {source} rw")
        table.append(f"{source} {point} {kind} rw,relatime 0 0")
        if number[0] != "0":
            writer.make_directory(point)
    writer.write("/proc/self", {"mountinfo": "\n".join(information), "mounts": "\n".join(table)})
    writer.link("/proc/mounts", "/proc/self/mounts")


def _escape(point: str) -> str:
    """Blanks and backslashes as mountinfo writes them; proc_pid_mountinfo(5)."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in point)
