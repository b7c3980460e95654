"""Pause frames, ring sizes and adaptive coalescing of an interface, by ethtool's netlink family.

Reads and writes one number at a time; a write names nothing but that number, so that the others stay as they
are.
Sources: Documentation/networking/ethtool-netlink.rst, include/uapi/linux/ethtool_netlink.h (Linux 6.1).
"""

from __future__ import annotations

import errno
import sys

from sparktune.frozen import frozen
from sparktune.kernel.netlink import GENERIC, Netlink, attribute, attributes, nest, number

_FAMILY = "ethtool"
_HEADER, _DEVICE_INDEX = 1, 1  # ETHTOOL_A_*_HEADER, ETHTOOL_A_HEADER_DEV_INDEX


@frozen(kw_only=False)
class Setting:
    """Where a number is in ethtool's messages.

    Attributes:
        what: what it belongs to, for "the driver has no …".
        get, set: ETHTOOL_MSG_*_GET and _SET.
        number: the attribute's number in both.
        size: 1 (u8) or 4 (u32) bytes.
        most: the attribute that tells the largest value; 0 if none does.
    """

    what: str
    get: int
    set: int
    number: int
    size: int
    most: int = 0


SETTINGS = {
    "rx_ring": Setting("ring sizes", 15, 16, 6, 4, most=2),
    "tx_ring": Setting("ring sizes", 15, 16, 9, 4, most=5),
    "adaptive_rx": Setting("adaptive coalescing", 19, 20, 11, 1),
    "adaptive_tx": Setting("adaptive coalescing", 19, 20, 12, 1),
    "pause_rx": Setting("pause frames", 21, 22, 3, 1),
    "pause_tx": Setting("pause frames", 21, 22, 4, 1),
}
"""ETHTOOL_MSG_RINGS_GET is 15, _COALESCE_GET 19, _PAUSE_GET 21; each _SET is the next number."""


class Ethtool:
    """Asks and sets by interface index."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        """Open nothing yet."""
        self._netlink = netlink or Netlink(GENERIC)

    def get(self, index: int, name: str) -> int:
        """One of `SETTINGS` of the interface with this index.

        Raises:
            OSError: EOPNOTSUPP if the driver has no such setting, or does not tell this number of it; ENODEV
                if
                the interface is gone.
        """
        setting = SETTINGS[name]
        found = self._ask(index, setting)
        if setting.number not in found:
            raise OSError(errno.EOPNOTSUPP, f"the driver tells no {name} among its {setting.what}")
        return number(found[setting.number], size=setting.size)

    def most(self, index: int, name: str) -> int | None:
        """The largest value that the driver takes; None if it does not say. Raises OSError."""
        setting = SETTINGS[name]
        found = self._ask(index, setting).get(setting.most) if setting.most else None
        return None if found is None else number(found, size=setting.size)

    def set(self, index: int, name: str, value: int) -> None:
        """Set one of `SETTINGS`. Needs CAP_NET_ADMIN. Raises OSError as the kernel gave it."""
        setting = SETTINGS[name]
        try:
            data = value.to_bytes(setting.size, sys.byteorder)
        except OverflowError as error:
            raise OSError(errno.ERANGE, f"{value} does not fit into {setting.size} bytes") from error
        self._netlink.ask_family(_FAMILY, setting.set, _header(index) + attribute(setting.number, data))

    def _ask(self, index: int, setting: Setting) -> dict[int, bytes]:
        return dict(attributes(self._netlink.ask_family(_FAMILY, setting.get, _header(index))))


def _header(index: int) -> bytes:
    return nest(_HEADER, attribute(_DEVICE_INDEX, index.to_bytes(4, sys.byteorder)))
