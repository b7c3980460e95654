"""Values of a network interface that netlink sets: MTU, ethtool's, DCB's. One object a value, as of a file.

In a tree they are plain files (`/sys/class/net/NAME/netlink/FAMILY/VALUE`), on a kernel they are asked for by
interface index. What the driver does not have is absent. Does not know what anybody wants.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
import time
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import Codec, FileAttribute, decode, encode, reading_of
from sparktune.kernel.dcb import Dcb
from sparktune.kernel.ethtool import SETTINGS, Ethtool
from sparktune.kernel.identity import find_interface, identify_interface
from sparktune.kernel.lockdown import add_lockdown
from sparktune.kernel.netlink import ROUTE, Netlink, attribute
from sparktune.model import Reading, ReadingKind, Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sparktune.kernel.root import Root
    from sparktune.model import Attribute

KIND = "netlink"
MTU = "mtu"
TRUST = "dcb/trust"
TRUST_MAP = "dcb/trust_map"
"""The same value as `TRUST`, with the map of DSCP to priority: what has to be kept to put a map back."""
PRIORITIES = "dcb/pfc"

_RTM_SETLINK, _IFLA_MTU = 19, 4
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_FRESH_S = 60.0
_MISSING = frozenset({errno.EOPNOTSUPP, errno.ENOENT})
_WHAT = {
    TRUST: "trust mode",
    TRUST_MAP: "trust mode",
    PRIORITIES: "priority flow control",
    **{f"ethtool/{name}": setting.what for name, setting in SETTINGS.items()},
}

PARAMETERS: dict[str, Codec] = {
    MTU: "integer",
    **dict.fromkeys((f"ethtool/{name}" for name in SETTINGS), "integer"),
    PRIORITIES: "text",
    TRUST: "text",
    TRUST_MAP: "text",
}
"""What can be opened, and how a tree's file of it is read."""


class Sockets:
    """The clients of one process. Each opens a socket when it is asked, and closes it after that."""

    def __init__(
        self, route: Netlink | None = None, ethtool: Ethtool | None = None, dcb: Dcb | None = None
    ) -> None:
        """Open nothing yet."""
        self.route = route or Netlink(ROUTE)
        self.ethtool = ethtool or Ethtool()
        self.dcb = dcb or Dcb(self.route)


SOCKETS = Sockets()


def open_parameter(
    root: Root, netdev: str, parameter: str, *, identity: tuple[str, str] | None = None
) -> Attribute:
    """One of `PARAMETERS` of an interface; nothing is asked yet.

    Args:
        root: where the host's files are.
        netdev: the interface.
        parameter: `mtu`, `ethtool/rx_ring`, `dcb/trust`, ….
        identity: as it was recorded with an original; the interface's present one if not given.
    """
    identity = identity or identify_interface(root, netdev)
    if parameter == MTU:
        return MtuAttribute(root, f"/sys/class/net/{netdev}/mtu", identity)
    if root.is_real:
        return NetlinkAttribute(root, netdev, parameter, identity)
    return TreeAttribute(root, netdev, parameter, identity)


def reopen_parameter(root: Root, kind: str, location: str, identity: tuple[str, str]) -> Attribute:
    """The value an original was recorded of (`netlink:ethtool/rx_ring`), wherever its interface is by now."""
    parameter = kind.removeprefix(f"{KIND}:")
    found = find_interface(root, identity[1])
    netdev = found[0] if found else _NAME.sub(r"\1", location)
    return open_parameter(root, netdev, parameter, identity=identity)


_NAME = re.compile(r"/sys/class/net/([^/:]*).*", re.DOTALL)


def _unsupported(parameter: str) -> Reading:
    lacking = "driver, or a kernel without CONFIG_DCB," if parameter.startswith("dcb/") else "driver"
    reason = f"the {lacking} has no {_WHAT.get(parameter, parameter)} to set (EOPNOTSUPP)"
    return Reading(ReadingKind.ABSENT, reason=reason)


class MtuAttribute(FileAttribute):
    """The MTU: read from sysfs, which costs a pread and whose writers are seen; set by rtnetlink.

    By index and not by name, so that what has the name by now is never changed in its place. Sources:
    Documentation/ABI/testing/sysfs-class-net (mtu), rtnetlink(7).
    """

    __slots__ = ("_sockets",)

    def __init__(
        self, root: Root, location: str, identity: tuple[str, str], sockets: Sockets = SOCKETS
    ) -> None:
        """Describe it; nothing is opened yet."""
        super().__init__(root, location, identity=identity)
        self._sockets = sockets

    @property
    def kind(self) -> str:
        """`netlink:mtu`."""
        return f"{KIND}:{MTU}"

    def write(self, value: Value) -> None:
        """Set it. Raises OSError as the kernel gave it; ENODEV if the interface is gone."""
        if self._tree:
            super().write(value)
            return
        body = _LINK.pack(0, 0, _index(self._root, self.identity, self.location), 0, 0)
        data = attribute(_IFLA_MTU, int(value).to_bytes(4, sys.byteorder))
        self._sockets.route.ask(_RTM_SETLINK, body + data)
        self.writes += 1

    def exchange(self, wanted: bytes) -> bytes | None:
        """Never in haste: setting an MTU disturbs traffic."""


class TreeAttribute(FileAttribute):
    """A value of a tree, where a file stands for what netlink would say."""

    __slots__ = ("_parameter",)

    def __init__(self, root: Root, netdev: str, parameter: str, identity: tuple[str, str]) -> None:
        """Describe it; nothing is opened yet."""
        name = TRUST if parameter == TRUST_MAP else parameter
        location = f"/sys/class/net/{netdev}/netlink/{name}"
        super().__init__(root, location, identity=identity, codec=PARAMETERS[parameter])
        self._parameter = parameter

    @property
    def kind(self) -> str:
        """`netlink:ethtool/rx_ring`."""
        return f"{KIND}:{self._parameter}"

    def read(self) -> Reading:
        """Read it; a missing file stands for a driver that has no such thing."""
        reading = super().read()
        if reading.kind is ReadingKind.ABSENT and find_interface(self._root, self.identity[1]):
            return _unsupported(self._parameter)
        if self._parameter == TRUST and reading.kind is ReadingKind.VALUE:
            return _without_map(reading)
        return reading

    def holds(self, wanted: Value) -> bool:
        """Whether it is `wanted`."""
        return self.read().value == wanted if self._parameter == TRUST else super().holds(wanted)

    def exchange(self, wanted: bytes) -> bytes | None:
        """Never in haste, as on a kernel."""


class NetlinkAttribute:
    """A value that only netlink reads and sets, on a kernel."""

    writable = True
    makes = ""
    watched: tuple[Path, ...] = ()

    def __init__(
        self,
        root: Root,
        netdev: str,
        parameter: str,
        identity: tuple[str, str],
        *,
        sockets: Sockets = SOCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Describe it; nothing is asked yet."""
        self._root = root
        self._parameter = parameter
        self._sockets = sockets
        self._clock = clock
        self._seen: tuple[float, Value] | None = None
        self.location = f"/sys/class/net/{netdev}: {_COMMANDS[parameter]}"
        self.identity = identity
        self.writes = 0

    @property
    def kind(self) -> str:
        """`netlink:ethtool/rx_ring`."""
        return f"{KIND}:{self._parameter}"

    def read(self) -> Reading:
        """Ask the kernel now."""
        self._seen = None
        try:
            name, index = self._find()
            data = self._get(name, index)
        except OSError as error:
            if error.errno in _MISSING:
                return _unsupported(self._parameter)
            return reading_of(add_lockdown(self._root, error), self.location)
        reading = decode(encode(data), PARAMETERS[self._parameter])
        reading = _without_map(reading) if self._parameter == TRUST else reading
        if reading.value is not None:
            self._seen = (self._clock(), reading.value)
        return reading

    def holds(self, wanted: Value) -> bool:
        """Whether it is `wanted`, as told in the last minute: a sweep does not ask a driver each time.

        A driver answers by asking its firmware, under a lock that all interfaces share. Events, requests and
        what does not hold are read anew.
        """
        if self._seen is not None and self._clock() - self._seen[0] < _FRESH_S:
            return self._seen[1] == wanted and find_interface(self._root, self.identity[1]) is not None
        return self.read().value == wanted

    def exchange(self, wanted: bytes) -> bytes | None:
        """Never in haste: nobody's write to it is seen, so there is nothing to answer."""

    def preparation(self) -> tuple[str, ...]:
        """Nothing has to be made."""
        return ()

    def prepare(self) -> None:
        """Nothing to make."""

    def unprepare(self) -> None:
        """Nothing was made."""

    def write(self, value: Value) -> None:
        """Set it. Raises OSError as the kernel gave it; ENODEV if the interface is gone."""
        self._seen = None
        name, index = self._find()
        if self._parameter in (TRUST, TRUST_MAP):
            self._sockets.dcb.set_trust(name, str(value))
        elif self._parameter == PRIORITIES:
            self._sockets.dcb.set_priorities(name, str(value))
        else:
            self._sockets.ethtool.set(index, self._parameter.partition("/")[2], int(value))
        self.writes += 1

    def expire(self) -> None:
        """Forget what was seen: something happened to the interface."""
        self._seen = None

    def inherit(self, former: Attribute) -> None:
        """Nothing: after a discovery the kernel is asked again."""

    def close(self) -> None:
        """Forget what was seen; no socket stays open."""
        self._seen = None

    def _get(self, name: str, index: int) -> Value:
        if self._parameter in (TRUST, TRUST_MAP):
            return self._sockets.dcb.trust(name)
        if self._parameter == PRIORITIES:
            return self._sockets.dcb.priorities(name)
        return self._sockets.ethtool.get(index, self._parameter.partition("/")[2])

    def _find(self) -> tuple[str, int]:
        found = find_interface(self._root, self.identity[1])
        if found is None:
            raise OSError(errno.ENODEV, "the interface left", self.location)
        return found


_COMMANDS = {
    **{f"ethtool/{name}": f"ethtool {name}" for name in SETTINGS},
    PRIORITIES: "dcb pfc",
    TRUST: "dcb trust",
    TRUST_MAP: "dcb trust",
}


def _index(root: Root, identity: tuple[str, str], location: str) -> int:
    found = find_interface(root, identity[1])
    if found is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), location)
    return found[1]


def _without_map(reading: Reading) -> Reading:
    """`dscp` whatever the map is: one who wants DSCP trusted may have a map of one's own."""
    return Reading(reading.kind, str(reading.value).partition(" ")[0])
