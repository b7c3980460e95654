"""What a process really does: descriptors, routes, limits, memory. Bounded; judges and raises nothing.

Everything here is cheap, for it is read once a minute in the daemon's loop. smaps is not: see model_child.py.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from sparktune.kernel.engines import read_file, read_links

MOST_DESCRIPTORS = 4096
MOST_ROUTES_BYTES = 1 << 20
MOST_ENVIRONMENT_BYTES = 1 << 18

_IPC_LOCK = 14  # include/uapi/linux/capability.h
_UNLIMITED = b"unlimited"


class Status(NamedTuple):
    """proc_pid_status(5), the fields that are used. None: this kernel does not say it.

    Attributes:
        uid, gid: effective ids.
        groups: supplementary groups.
        parent: the parent's pid.
        rss_bytes: resident memory.
        file_bytes: resident file mappings (RssFile).
        virtual_bytes: VmSize.
        swap_bytes: VmSwap.
        threads: how many.
        cpus: Cpus_allowed_list.
        ipc_lock: whether CAP_IPC_LOCK is effective.
        exited: it is a zombie: it does nothing any more.
        library_bytes: code beside its own program's (VmLib): it differs once a library is loaded.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    parent: int
    rss_bytes: int | None
    file_bytes: int | None
    virtual_bytes: int | None
    swap_bytes: int | None
    threads: int | None
    cpus: str
    ipc_lock: bool | None
    exited: bool = False
    library_bytes: int | None = None


def read_status(process: int) -> Status | None:
    """The fields of /proc/PID/status; None when it is gone."""
    data = read_file(process, "status", most=65536)
    if data is None:
        return None
    fields: dict[bytes, bytes] = {}
    for line in data.splitlines():
        key, _, value = line.partition(b":")
        fields.setdefault(key, value.strip())
    try:
        return Status(
            uid=int(fields[b"Uid"].split()[1]),
            gid=int(fields[b"Gid"].split()[1]),
            groups=tuple(int(group) for group in fields.get(b"Groups", b"").split()[:256]),
            parent=int(fields.get(b"PPid", b"0")),
            rss_bytes=_kilobytes(fields, b"VmRSS"),
            file_bytes=_kilobytes(fields, b"RssFile"),
            virtual_bytes=_kilobytes(fields, b"VmSize"),
            swap_bytes=_kilobytes(fields, b"VmSwap"),
            threads=int(fields[b"Threads"]) if b"Threads" in fields else None,
            cpus=fields.get(b"Cpus_allowed_list", b"").decode(errors="replace"),
            ipc_lock=bool(int(fields[b"CapEff"], 16) >> _IPC_LOCK & 1) if b"CapEff" in fields else None,
            exited=fields.get(b"State", b"")[:1] in {b"Z", b"X"},
            library_bytes=_kilobytes(fields, b"VmLib"),
        )
    except (KeyError, IndexError, ValueError):  # not what a kernel writes
        return None


def _kilobytes(fields: dict[bytes, bytes], key: bytes) -> int | None:
    words = fields.get(key, b"").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def read_memlock(process: int) -> tuple[int | None, int | None] | None:
    """Soft and hard RLIMIT_MEMLOCK in bytes, None for unlimited (proc_pid_limits(5)); None: not readable."""
    for line in (read_file(process, "limits", most=16384) or b"").splitlines():
        if line.startswith(b"Max locked memory"):
            words = line.removeprefix(b"Max locked memory").split()
            if len(words) >= 2 and all(word == _UNLIMITED or word.isdigit() for word in words[:2]):  # noqa: PLR2004
                soft, hard = (None if word == _UNLIMITED else int(word) for word in words[:2])
                return soft, hard
    return None


def read_descriptors(process: int) -> tuple[str, ...] | None:
    """What its open descriptors lead to, at most 4,096; None: not readable."""
    return read_links(process, "fd", most=MOST_DESCRIPTORS)


def read_environment(process: int) -> bytes | None:
    """Its environment as it was started, at most 256 KiB. Holds secrets: only for `advice.allowed`."""
    return read_file(process, "environ", most=MOST_ENVIRONMENT_BYTES)


def read_maps_lines(process: int) -> list[bytes] | None:
    """The lines of /proc/PID/maps, at most 4 MiB; None: not readable."""
    data = read_file(process, "maps", most=4 << 20)
    return None if data is None else data.splitlines()


class Routes(NamedTuple):
    """Which interface leads where, in the network namespace of a process.

    Attributes:
        networks: network and interface, the narrowest first.
        addresses: local IPv6 addresses and their interface.
    """

    networks: tuple[tuple[int, int, str], ...]
    addresses: dict[str, str]

    def interface_of(self, local: str, remote: str) -> str:
        """The interface by which a connection goes; empty if it cannot be told."""
        if local in self.addresses:
            return self.addresses[local]
        try:
            number = int(ipaddress.IPv4Address(remote))
        except ValueError:  # IPv6 without an address of ours: not to be told
            return ""
        return next((name for network, mask, name in self.networks if number & mask == network), "")


def read_routes(process: int) -> Routes:
    """The IPv4 routes and IPv6 addresses of its network namespace (proc_pid_net(5)); empty without."""
    networks: list[tuple[int, int, str]] = []
    for line in (read_file(process, "net/route", most=MOST_ROUTES_BYTES) or b"").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 8:  # noqa: PLR2004 - Iface Destination Gateway Flags RefCnt Use Metric Mask
            network, mask = (int.from_bytes(bytes.fromhex(fields[place].decode())[::-1]) for place in (1, 7))
            networks.append((network, mask, fields[0].decode(errors="replace")))
    addresses: dict[str, str] = {}
    for line in (read_file(process, "net/if_inet6", most=65536) or b"").splitlines():
        fields = line.split()
        if len(fields) >= 6:  # noqa: PLR2004 - address, index, prefix, scope, flags, name
            address = ipaddress.IPv6Address(bytes.fromhex(fields[0].decode()))
            addresses[str(address)] = fields[5].decode(errors="replace")
    return Routes(tuple(sorted(networks, key=lambda entry: -entry[1])), addresses)
