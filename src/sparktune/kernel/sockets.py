"""TCP sockets of processes, from the tables of their network namespaces. Reads only; raises nothing."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from sparktune.kernel.borrowed import as_user
from sparktune.kernel.engines import read_file

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_BYTES = 1 << 20
"""So much of each table is read."""

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_ESTABLISHED, _LISTEN = b"01", b"0A"


class Socket(NamedTuple):
    """A TCP socket of a process.

    Attributes:
        listening: it waits for connections; `remote` means nothing then.
        local, local_port, remote, remote_port: its two ends.
    """

    listening: bool
    local: str
    local_port: int
    remote: str
    remote_port: int


def inodes_of(descriptors: Iterable[str]) -> frozenset[bytes]:
    """The inodes of the sockets among what descriptors lead to."""
    return frozenset(match[1].encode() for link in descriptors if (match := _SOCKET.fullmatch(link)))


class SocketTables:
    """The tables of all network namespaces, each read once for the processes in it. To be used for one pass.

    The kernel walks its whole hash for each table, up to 524,288 buckets, however few sockets there are:
    milliseconds. Source: net/ipv4/tcp_ipv4.c, established_get_first and thash_entries.
    """

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._lines: dict[int, list[bytes] | None] = {}

    def read(self, process: int, inodes: frozenset[bytes], *, uid: int) -> tuple[Socket, ...] | None:
        """The TCP sockets with these inodes in the namespace of a process; None: not readable.

        Args:
            process: the descriptor of its directory.
            inodes: those of its sockets.
            uid: whose right it is to see in which namespace it is.
        """
        if not inodes:
            return ()
        with as_user(uid):
            namespace = _namespace_of(process)
        if namespace is None:  # not to be seen: it may have one of its own
            lines = _read_tables(process)
        elif namespace in self._lines:
            lines = self._lines[namespace]
        else:
            lines = self._lines[namespace] = _read_tables(process)
        if lines is None:
            return None
        return tuple(found for line in lines if (found := _socket(line, inodes)) is not None)


def _namespace_of(process: int) -> int | None:
    try:
        return os.stat("ns/net", dir_fd=process).st_ino
    except OSError:  # it ended, or is not ours to see
        return None


def _read_tables(process: int) -> list[bytes] | None:
    """The lines of both tables. Source: proc_pid_net(5), Documentation/networking/proc_net_tcp.rst."""
    tables = [read_file(process, name, most=MOST_BYTES) for name in ("net/tcp", "net/tcp6")]
    if tables[0] is None and tables[1] is None:
        return None
    return [line for table in tables for line in (table or b"").splitlines()[1:]]


def _socket(line: bytes, inodes: frozenset[bytes]) -> Socket | None:
    fields = line.split()
    if len(fields) < 10 or fields[9] not in inodes or fields[3] not in {_ESTABLISHED, _LISTEN}:  # noqa: PLR2004
        return None
    try:
        (local, local_port), (remote, remote_port) = _end(fields[1]), _end(fields[2])
    except ValueError:  # not what a kernel writes
        return None
    return Socket(fields[3] == _LISTEN, local, local_port, remote, remote_port)


def _end(field: bytes) -> tuple[str, int]:
    """Address and port of `0100007F:1F90`: words of 32 bits, each in the byte order of the machine."""
    digits, _, port = field.partition(b":")
    words = bytes.fromhex(digits.decode("ascii"))
    data = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
    address = ipaddress.ip_address(data)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), int(port, 16)
