"""GID tables of RDMA ports, as sysfs shows them. Reads only; which entry is right is judged elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.fabric.model import Gid

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

_NONE = b":".join([b"0000"] * 8)
_IPV4 = "0000:0000:0000:0000:0000:ffff:"


def read_gids(root: Root, port: str) -> tuple[Gid, ...]:
    """The filled entries of the table of `/sys/class/infiniband/DEVICE/ports/N`, by index.

    A table has up to 256 entries, nearly all of them empty. An empty one is all zero, and what kind it is
    and whose it is answers EINVAL. Source: kernel, Documentation/ABI/stable/sysfs-class-infiniband.
    """
    gids = {
        int(name): data.decode(errors="replace").strip("\0 \n")
        for name, data in root.attributes(f"{port}/gids").items()
        if not data.startswith(_NONE) and name.isdecimal() and data.strip(b"\0 \n")
    }
    found: list[Gid] = []
    for index in sorted(gids):
        kind = root.read(f"{port}/gid_attrs/types/{index}")
        if kind:  # else it was emptied in between
            netdev = root.read_name(f"{port}/gid_attrs/ndevs/{index}")
            gid = gids[index]
            found.append(Gid(index=index, gid=gid, kind=kind, netdev=netdev, ipv4=_ipv4(gid)))
    return tuple(found)


def _ipv4(gid: str) -> str:
    """The address of an IPv4-mapped GID: its last four bytes."""
    digits = gid.removeprefix(_IPV4).replace(":", "")
    if not gid.startswith(_IPV4) or len(digits) != 8:  # noqa: PLR2004 - four bytes
        return ""
    try:
        return ".".join(str(byte) for byte in bytes.fromhex(digits))
    except ValueError:  # no digits after all
        return ""
