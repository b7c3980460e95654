"""Counters of a network driver beyond sysfs (`ethtool -S`), by its ioctl. Only reads.

The driver asks the card's registers for them, which takes milliseconds and the lock of all network settings.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
import time
from typing import TYPE_CHECKING

from sparktune.kernel.counters import read_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.kernel.root import Root

_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSTATS, _GSSET_INFO = 0x1B, 0x1D, 0x37
_SS_STATS = 1
_STRING_BYTES = 32  # ETH_GSTRING_LEN
_REQUEST = struct.Struct("@16sP16x")  # struct ifreq with ifr_data
_COUNT = struct.Struct("=IIQI")  # struct ethtool_sset_info with one number
_HEAD = struct.Struct("=II")
_SPARE = 4096
"""Counters may come between asking how many there are and asking for them: the kernel then writes more."""
_TOGETHER_S = 1.0
_MOST = 65536


class DriverStatistics:
    """The named counters of one interface, all of them read at once.

    In a tree they are plain files below the interface's `netlink/ethtool/statistics`.
    """

    def __init__(self, root: Root, netdev: str, names: Iterable[str], gate: str = "") -> None:
        """Ask for these names only.

        Args:
            root: where the host's files are.
            netdev: the interface.
            names: of the counters.
            gate: a sysfs file of the same registers. Where even that cannot be read, asking more often would
                only fill the kernel's log.
        """
        self._root = root
        self._netdev = netdev
        self._names = frozenset(names)
        self._gate = gate
        self._read_s = float("-inf")
        self._values: dict[str, int] = {}

    def get(self, name: str) -> int:
        """The counter now. Raises OSError: ENOENT if the driver has none of this name."""
        if self._gate:
            gate, self._gate = self._gate, ""
            self._root.path(gate).read_bytes()
        if not self._root.is_real:
            return read_number(self._root, f"{self.place}/{name}")
        now_s = time.monotonic()
        if now_s - self._read_s >= _TOGETHER_S:
            self._values = _ask(self._netdev, self._names)
            self._read_s = now_s
        if name not in self._values:
            raise OSError(errno.ENOENT, "the driver has no such counter", name)
        return self._values[name]

    @property
    def place(self) -> str:
        """The folder of a tree with these counters."""
        return f"/sys/class/net/{self._netdev}/netlink/ethtool/statistics"


def _ask(netdev: str, names: frozenset[str]) -> dict[str, int]:
    """Source: include/uapi/linux/ethtool.h. Raises OSError as the kernel gave it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as opened:
        counted = bytearray(_COUNT.pack(_GSSET_INFO, 0, 1 << _SS_STATS, 0))
        _request(opened, netdev, counted)
        count = min(_COUNT.unpack(counted)[3], _MOST)
        strings = bytearray(_HEAD.pack(_GSTRINGS, _SS_STATS) + bytes(4 + (count + _SPARE) * _STRING_BYTES))
        _request(opened, netdev, strings)
        numbers = bytearray(_HEAD.pack(_GSTATS, count) + bytes((count + _SPARE) * 8))
        _request(opened, netdev, numbers)
    found: dict[str, int] = {}
    for index in range(count):
        start = 12 + index * _STRING_BYTES
        name = bytes(strings[start : start + _STRING_BYTES]).split(b"\0", 1)[0].decode(errors="replace")
        if name in names:
            found[name] = struct.unpack_from("=Q", numbers, 8 + index * 8)[0]
    return found


def _request(opened: socket.socket, netdev: str, data: bytearray) -> None:
    buffer = array.array("B", data)
    name = netdev.encode(errors="surrogateescape")[:15]
    fcntl.ioctl(opened, _SIOCETHTOOL, _REQUEST.pack(name, buffer.buffer_info()[0]))
    data[:] = buffer.tobytes()
