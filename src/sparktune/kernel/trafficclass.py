"""The traffic class that MLNX_OFED's mlx5_ib puts on all RoCE packets of a port. In-tree mlx5 has none.

It reads `Global tclass=106`, with further lines for rules of single destinations, and nothing at all while
none is set; a number sets it, -1 takes it back. Source: MLNX_OFED's mlx5_ib, functions traffic_class_show and
traffic_class_store.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import FileAttribute, reading_of
from sparktune.kernel.identity import is_still_there
from sparktune.kernel.lockdown import add_lockdown
from sparktune.model import Reading, ReadingKind, Value

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

UNSET = -1

_ONLY_OFED = "the driver has no traffic_class to set: only MLNX_OFED's has one; NCCL_IB_TC does it for NCCL"

_GLOBAL = re.compile(r"(?:Global tclass=)?(-?[0-9]{1,3})")


class TrafficClass(FileAttribute):
    """The port's global traffic class; `UNSET` while there is none. Rules for single destinations stay."""

    __slots__ = ()

    def __init__(self, root: Root, name: str, *, identity: tuple[str, str]) -> None:
        """Describe it; nothing is opened yet."""
        super().__init__(root, name, identity=identity)

    @property
    def kind(self) -> str:
        """`file:traffic_class`."""
        return "file:traffic_class"

    def read(self) -> Reading:
        """Read it now."""
        self.last = None
        try:
            text = self._pread().decode(errors="replace")
        except OSError as error:
            if error.errno == errno.ENOENT and is_still_there(self._root, self.identity[1]):
                return Reading(ReadingKind.ABSENT, reason=_ONLY_OFED)
            return reading_of(add_lockdown(self._root, error), self.location)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = [match for line in lines if (match := _GLOBAL.fullmatch(line))]
        if not found and any(line.startswith("Global") or "tclass=" not in line for line in lines):
            return Reading(ReadingKind.FAILED, reason=f"no traffic class: {text[:40]!r}")
        self.last = int(found[0][1]) if found else UNSET
        return Reading(ReadingKind.VALUE, self.last)

    def holds(self, wanted: Value) -> bool:
        """Whether it is `wanted`."""
        return self.read().value == wanted

    def exchange(self, wanted: bytes) -> bytes | None:
        """Not in haste: what is read is spelled otherwise than what is written."""
