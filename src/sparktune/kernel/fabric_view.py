"""The fabric as all checks of a discovery share it: read again after events, and otherwise seldom.

Reading it takes hundreds of files, some of which ask the firmware: too dear for each sweep.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.fabric.twins import share_subnet
from sparktune.kernel.check import ReadOnly
from sparktune.kernel.fabric import read_fabric
from sparktune.model import Attribute, Reading, ReadingKind, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.fabric.model import Fabric, Function
    from sparktune.kernel.root import Root

FRESH_S = 60.0
"""How old the fabric may be when nothing happened."""
SHARE = 1e-4
"""Where reading it takes long, how much of the time may be spent on it."""

_CONF = "/proc/sys/net/ipv4/conf"
_UNREAD = Reading(ReadingKind.ABSENT, reason="not read yet")


class FabricView:
    """What was read last, and when it has to be read again.

    Attributes:
        readings: how often it was read.
    """

    def __init__(self, root: Root, fabric: Fabric) -> None:
        """Start with what the discovery read just now."""
        self._root = root
        self._fabric = _with_arp(root, fabric)
        self._due_s = time.monotonic() + FRESH_S
        self.readings = 0

    def now(self) -> Fabric:
        """The fabric as it is, or as it was a minute ago if nothing was heard since."""
        began_s = time.monotonic()
        if began_s >= self._due_s:
            found = _with_arp(self._root, read_fabric(self._root))
            if found != self._fabric:  # else nothing is to be judged or told anew
                self._fabric = found
            self.readings += 1
            ended_s = time.monotonic()
            self._due_s = ended_s + max(FRESH_S, (ended_s - began_s) / SHARE)
        return self._fabric

    def expire(self) -> None:
        """Something happened: read it anew when it is asked for next."""
        self._due_s = float("-inf")


class FabricCheck(ReadOnly):
    """A check that is judged from the fabric alone."""

    kind = "fabric"

    def __init__(
        self,
        view: FabricView,
        judge: Callable[[Fabric], Reading],
        location: str,
        identity: tuple[str, str],
    ) -> None:
        """Judge the fabric of a view; `location` says where the value can be seen by hand."""
        self._view = view
        self._judge = judge
        self._judged: Fabric | None = None
        self._reading = _UNREAD
        self.location = location
        self.identity = identity

    def read(self) -> Reading:
        """Judge the fabric as it is known now."""
        fabric = self._view.now()
        if fabric is not self._judged:
            self._judged, self._reading = fabric, self._judge(fabric)
        return self._reading

    def holds(self, wanted: Value) -> bool:
        """Whether it holds as before; what it says beside the value may have changed as well."""
        before = self._reading
        if self._view.now() is self._judged:
            return before.value == wanted
        return self.read() == before and before.value == wanted

    def expire(self) -> None:
        """The fabric may be another one by now."""
        self._view.expire()

    def inherit(self, former: Attribute) -> None:
        """Nothing is counted."""


def _with_arp(root: Root, fabric: Fabric) -> Fabric:
    """The fabric with how ARP is answered and announced, where twins share a subnet and so it matters."""
    sharing = {one.bdf for port in fabric.ports if share_subnet(port) for one in port.functions}
    if not sharing:
        return fabric
    functions = tuple(_ask_arp(root, one) if one.bdf in sharing else one for one in fabric.functions)
    return replace(fabric, functions=functions)


def _ask_arp(root: Root, function: Function) -> Function:
    ignore = _effective(root, function.netdev, "arp_ignore")
    return replace(
        function, arp_ignore=ignore, arp_announce=_effective(root, function.netdev, "arp_announce")
    )


def _effective(root: Root, netdev: str, name: str) -> int | None:
    """The larger of the interface's value and that of `all`: Documentation/networking/ip-sysctl.rst."""
    texts = [root.read(f"{_CONF}/{scope}/{name}") or "" for scope in ("all", netdev)]
    numbers = [int(text) for text in texts if text.isdecimal() and len(text) < 10]  # noqa: PLR2004 - an int's
    return max(numbers) if len(numbers) == len(texts) else None
