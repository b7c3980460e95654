"""Which physical device, and which appearance of it, an attribute belongs to: the key of its original."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root


_NOT_THERE = "None"
_KINDS = ("diskseq:", "inode:")


def identify_directory(root: Root, name: str) -> tuple[str, str]:
    """Hardware path and instance of a sysfs directory, by its inode number.

    kernfs gives every node a number of its own, so a device that left and came back has another one. It is
    looked for by the name it was found by: of a device that leaves, the kernel takes the link in /sys/block
    or /sys/class away first, tells of the removal, and only then takes the directory (device_del).
    """
    return root.resolve(name), _instance(root, "inode", name)


def identify_disk(root: Root, name: str) -> tuple[str, str]:
    """Hardware path and instance of a disk (`/sys/block/nvme0n1`).

    On a kernel by inode number, as any directory: `diskseq` (Documentation/ABI/stable/sysfs-block) also
    changes when only the medium does, as when a file is attached to a loop device, and the queue with its
    values stays. In a tree by diskseq: plain file systems give inode numbers out again.
    """
    if not root.is_real and root.read(f"{name}/diskseq"):
        return root.resolve(name), _instance(root, "diskseq", f"{name}/diskseq")
    return identify_directory(root, name)


def is_still_there(root: Root, instance: str) -> bool:
    """Whether an instance recorded earlier in this boot is still the one behind its path."""
    kind, _, rest = instance.partition(":")
    name, _, number = rest.rpartition("=")
    return number != _NOT_THERE and _instance(root, kind, name) == instance


def was_replaced(root: Root, instance: str) -> bool:
    """Whether what is behind the path of an instance now is another one, or nothing."""
    return instance.startswith(_KINDS) and not is_still_there(root, instance)


def _instance(root: Root, kind: str, name: str) -> str:
    if kind == "diskseq":
        return f"diskseq:{name}={root.read(name)}"
    try:
        number: int | None = root.path(name).stat().st_ino
    except (OSError, ValueError):  # it left: no number equals None
        number = None
    return f"inode:{name}={number}"
