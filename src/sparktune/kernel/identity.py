"""Which physical device, and which appearance of it, an attribute belongs to: the key of its original."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root


_NOT_THERE = "None"
_INDEX = re.compile(r"[0-9]{1,10}")
_KINDS = ("diskseq:", "inode:", "ifindex:")


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


def identify_interface(root: Root, netdev: str) -> tuple[str, str]:
    """Hardware path and instance of a network interface: its device's `net` directory, ifindex and inode.

    Not by its name: an interface that is renamed keeps its values, and its original with them. The inode
        tells an interface that was made anew with the same index (as an index can be asked for) from the one
        before.
    """
    path = root.resolve(f"/sys/class/net/{netdev}")
    directory = path.rpartition("/")[0]
    index = root.read(f"{path}/ifindex")
    inode = root.inode(path) if index is not None and _INDEX.fullmatch(index) else None
    return directory, f"ifindex:{directory}={_NOT_THERE if inode is None else f'{index}.{inode}'}"


def find_interface(root: Root, instance: str) -> tuple[str, int] | None:
    """The name and ifindex that an interface recorded earlier has now; None if it left."""
    kind, _, rest = instance.partition(":")
    directory, _, number = rest.rpartition("=")
    index, _, inode = number.partition(".")
    if kind != "ifindex" or not _INDEX.fullmatch(index):
        return None
    for name in root.names(directory):
        if root.read(f"{directory}/{name}/ifindex") == index:
            found = str(root.inode(f"{directory}/{name}"))
            return (name, int(index)) if found == inode else None
    return None


def is_still_there(root: Root, instance: str) -> bool:
    """Whether an instance recorded earlier in this boot is still the one behind its path."""
    kind, _, rest = instance.partition(":")
    if kind == "ifindex":
        return find_interface(root, instance) is not None
    name, _, number = rest.rpartition("=")
    return number != _NOT_THERE and _instance(root, kind, name) == instance


def was_replaced(root: Root, instance: str) -> bool:
    """Whether what is behind the path of an instance now is another one, or nothing."""
    return instance.startswith(_KINDS) and not is_still_there(root, instance)


def _instance(root: Root, kind: str, name: str) -> str:
    if kind == "diskseq":
        return f"diskseq:{name}={root.read(name)}"
    return f"inode:{name}={root.inode(name)}"
