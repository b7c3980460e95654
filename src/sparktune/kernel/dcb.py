"""Priority flow control and trust mode of an interface, by DCB netlink.

Trust has no attribute of its own in the in-tree mlx5: it trusts DSCP while its APP table has a DSCP entry,
and PCP otherwise (drivers/net/ethernet/mellanox/mlx5/core/en_dcbnl.c, mlx5e_dcbnl_ieee_setapp and _delapp;
it offers no dcbnl_setapptrust). Sources: include/uapi/linux/dcbnl.h, net/dcb/dcbnl.c, dcb-pfc(8),
dcb-app(8).
"""

from __future__ import annotations

import errno
import os
import re
import struct
from typing import TYPE_CHECKING

from sparktune.kernel.netlink import ROUTE, Netlink, attribute, attributes, nest, number

if TYPE_CHECKING:
    from collections.abc import Mapping

PRIORITIES, CODEPOINTS = 8, 64
NOT_ANY = "none"

_GET, _SET = 78, 79  # RTM_GETDCB, RTM_SETDCB
_IEEE_SET, _IEEE_GET, _IEEE_DEL = 20, 21, 27  # DCB_CMD_*
_NAME, _IEEE = 1, 13  # DCB_ATTR_IFNAME, DCB_ATTR_IEEE
_PFC, _APPS, _APP = 2, 3, 1  # DCB_ATTR_IEEE_PFC, _APP_TABLE, _APP
_BY_CODEPOINT = 5  # IEEE_8021QAZ_APP_SEL_DSCP

_FAMILY = struct.Struct("=BBH")  # struct dcbmsg
_FLOW = struct.Struct("=BBBxHxx8Q8Q")  # struct ieee_pfc
_ENTRY = struct.Struct("=BBH")  # struct dcb_app
_MAP = re.compile(r"dscp( [0-9]{1,2}:[0-7])+")


class Dcb:
    """Asks and sets by interface name: the protocol knows no other."""

    def __init__(self, netlink: Netlink | None = None) -> None:
        """Open nothing yet."""
        self._netlink = netlink or Netlink(ROUTE)

    def priorities(self, netdev: str) -> str:
        """The priorities with PFC: `3,4`, or `none`. Raises OSError: EOPNOTSUPP if the driver has no PFC."""
        return format_priorities(self._flow(netdev)[1])

    def set_priorities(self, netdev: str, text: str) -> None:
        """Enable PFC for these priorities and no other; cable length and counters stay. Raises OSError."""
        flow = self._flow(netdev)
        data = _FLOW.pack(flow[0], parse_priorities(text), *flow[2:])
        self._change(netdev, _IEEE_SET, attribute(_PFC, data))

    def trust(self, netdev: str) -> str:
        """`pcp`, or `dscp` with its whole map if that is not `DEFAULT_MAP`. Raises OSError."""
        return format_trust(self._codepoints(netdev))

    def set_trust(self, netdev: str, text: str) -> None:
        """Trust as `trust` gives it. Adds before it takes away: no moment has no map. Raises OSError."""
        now, wanted = self._codepoints(netdev), parse_trust(text)
        added = [pair for pair in wanted.items() if now.get(pair[0]) != pair[1]]
        gone = [pair for pair in now.items() if pair[0] not in wanted]
        for command, pairs in ((_IEEE_SET, added), (_IEEE_DEL, gone)):
            if pairs:
                self._change(netdev, command, nest(_APPS, *map(_entry, pairs)))

    def _flow(self, netdev: str) -> tuple[int, ...]:
        data = self._ask(netdev).get(_PFC)
        if data is None:
            raise OSError(errno.EOPNOTSUPP, "the driver has no priority flow control")
        if len(data) < _FLOW.size:
            raise OSError(errno.EBADMSG, f"the kernel answered with a PFC table of {len(data)} bytes")
        return _FLOW.unpack_from(data)

    def _codepoints(self, netdev: str) -> dict[int, int]:
        """The DSCP entries of the APP table: codepoint to priority."""
        data = self._ask(netdev).get(_APPS)
        if data is None:
            raise OSError(errno.EOPNOTSUPP, "the driver has no APP table")
        entries = [
            _ENTRY.unpack(value)
            for kind, value in attributes(data)
            if kind == _APP and len(value) == _ENTRY.size
        ]
        return {codepoint: priority for by, priority, codepoint in entries if by == _BY_CODEPOINT}

    def _ask(self, netdev: str) -> dict[int, bytes]:
        answer = self._netlink.ask(_GET, _request(netdev, _IEEE_GET))
        found = dict(attributes(answer[_FAMILY.size :])).get(_IEEE)
        if found is None:
            raise OSError(errno.EOPNOTSUPP, "the driver has no IEEE DCB")
        return dict(attributes(found))

    def _change(self, netdev: str, command: int, *inner: bytes) -> None:
        answer = self._netlink.ask(_SET, _request(netdev, command) + nest(_IEEE, *inner))
        status = dict(attributes(answer[_FAMILY.size :])).get(_IEEE)
        if status is None:
            return
        code = -number(status, size=1) & 0xFF  # the kernel puts its negative error into one byte
        if code:
            code = code if code in errno.errorcode else errno.EIO
            raise OSError(code, os.strerror(code))


def _request(netdev: str, command: int) -> bytes:
    return _FAMILY.pack(0, command, 0) + attribute(_NAME, os.fsencode(netdev) + b"\0")


def _entry(pair: tuple[int, int]) -> bytes:
    codepoint, priority = pair
    return attribute(_APP, _ENTRY.pack(_BY_CODEPOINT, priority, codepoint))


DEFAULT_MAP: Mapping[int, int] = {codepoint: codepoint >> 3 for codepoint in range(CODEPOINTS)}
"""The upper three bits of a DSCP are its priority: what NVIDIA's `mlnx_qos --trust dscp` sets."""


def format_priorities(mask: int) -> str:
    """`3,4` of a bitmap; `none` of zero."""
    return ",".join(str(one) for one in range(PRIORITIES) if mask >> one & 1) or NOT_ANY


def parse_priorities(text: str) -> int:
    """The bitmap of `3,4` or `none`. Raises OSError (EINVAL)."""
    if text == NOT_ANY:
        return 0
    if not re.fullmatch(r"[0-7](,[0-7])*", text):
        raise OSError(errno.EINVAL, f"no list of priorities: {text[:40]!r}")
    return sum({1 << int(one) for one in text.split(",")})


def format_trust(codepoints: Mapping[int, int]) -> str:
    """`pcp`, `dscp`, or `dscp 26:3 48:6` for another map than the default one."""
    if not codepoints:
        return "pcp"
    if codepoints == DEFAULT_MAP:
        return "dscp"
    pairs = " ".join(f"{codepoint}:{priority}" for codepoint, priority in sorted(codepoints.items()))
    return f"dscp {pairs}"


def parse_trust(text: str) -> dict[int, int]:
    """The map of what `format_trust` gives. Raises OSError (EINVAL)."""
    if text == "pcp":
        return {}
    if text == "dscp":
        return dict(DEFAULT_MAP)
    if not _MAP.fullmatch(text):
        raise OSError(errno.EINVAL, f"no trust mode: {text[:40]!r}")
    pairs = [pair.split(":") for pair in text.split()[1:]]
    return {int(codepoint): int(priority) for codepoint, priority in pairs}
