"""Which physical device, and which appearance of it, an attribute belongs to: the key of its original."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root


def identify_directory(root: Root, name: str) -> tuple[str, str]:
    """Hardware path and instance of a sysfs directory, by its inode number.

    kernfs gives every node a number of its own, so a device that left and came back has another one.
    """
    path = root.resolve(name)
    return path, _instance(root, "inode", path)


def identify_disk(root: Root, name: str) -> tuple[str, str]:
    """Hardware path and instance of a disk (`/sys/block/nvme0n1`), by diskseq where the kernel has it (5.15).

    Source: Documentation/ABI/stable/sysfs-block, diskseq.
    """
    path = root.resolve(name)
    if root.read(f"{path}/diskseq"):
        return path, _instance(root, "diskseq", f"{path}/diskseq")
    return path, _instance(root, "inode", path)


def is_still_there(root: Root, instance: str) -> bool:
    """Whether an instance recorded earlier in this boot is still the one behind its path."""
    kind, _, rest = instance.partition(":")
    name, _, _ = rest.rpartition("=")
    return _instance(root, kind, name) == instance


def _instance(root: Root, kind: str, name: str) -> str:
    if kind == "diskseq":
        return f"diskseq:{name}={root.read(name)}"
    try:
        number: int | None = root.path(name).stat().st_ino
    except OSError:  # it left: no number equals None
        number = None
    return f"inode:{name}={number}"
