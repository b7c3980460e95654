"""Which device serves a path, from the kernel's mount table. Opens no path of the user's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

_NO_DISK = "0:"
_LEAST_FIELDS = 5  # id, parent, device, root, mount point
_MOST_BYTES = 16 * 1024 * 1024
"""A machine that runs containers has a mount table of hundreds of KiB; half a table names the wrong disk."""
_NUMBER = re.compile(r"[0-9]{1,10}:[0-9]{1,10}")
_OCTAL = re.compile(r"\\([0-7]{3})")


def read_table(root: Root) -> bytes | None:
    """The whole mount table; None if it cannot be read."""
    return root.read_bytes("/proc/self/mountinfo", most=_MOST_BYTES)


def device_of(root: Root, path: str) -> str | None:
    """`MAJOR:MINOR` of the file system mounted at or above a path; None if the path's own mount is missing.

    Source: proc_pid_mountinfo(5). A path that lies on the root file system only because nothing is mounted
    there yet cannot be told from one that belongs there; only a table that cannot be read gives None.
    """
    table = read_table(root)
    if table is None:
        return None
    number = _find(table, path)
    if number is not None and number.startswith(_NO_DISK):  # a look at a dead NFS server would never end
        return number
    return _find(table, root.resolve(path)) if root.exists(path) else number


def _find(table: bytes, resolved: str) -> str | None:
    best: tuple[int, str] | None = None
    for line in table.decode(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if len(fields) < _LEAST_FIELDS or _NUMBER.fullmatch(fields[2]) is None:
            continue
        mount_point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if _is_below(resolved, mount_point) and (best is None or len(mount_point) >= best[0]):
            best = (len(mount_point), fields[2])
    return None if best is None else best[1]


def _is_below(path: str, mount_point: str) -> bool:
    return mount_point in {"/", path} or path.startswith(f"{mount_point.rstrip('/')}/")
