"""A twin that moves nothing while its twin does, and one process holds queue pairs on both. Only reads.

Bytes are counted by the card; who holds queue pairs is asked only when the bytes are suspicious.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparktune.fabric.growth import QUIET_S
from sparktune.kernel.attribute import describe_error
from sparktune.kernel.check import ReadOnly
from sparktune.kernel.counters import EVERY_S, read_number
from sparktune.model import Attribute, Reading, ReadingKind, Value
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sparktune.fabric.model import RdmaPort
    from sparktune.kernel.counters import Clock
    from sparktune.kernel.root import Root

TOGETHER = "both or neither moves data"
MUCH_BYTES = 64 << 20
"""What one twin must have moved between two readings for the other's silence to mean anything."""

_COUNTED = ("port_xmit_data", "port_rcv_data")
_WORD = 4  # they count 32-bit words: Documentation/ABI/stable/sysfs-class-infiniband
_COUNTING = Reading(ReadingKind.ABSENT, reason="counting from now; judged a minute later")


@dataclass(slots=True)
class Flow:
    """What is known so far. Times are CLOCK_MONOTONIC.

    Attributes:
        moved: bytes by device at the last reading.
        due_s: when they are read next.
        seen_s: when a silent twin was seen last.
        reading: what was concluded last.
        unreadable: why nothing is read any more; empty while it is.
    """

    moved: dict[str, int] = field(default_factory=dict)
    due_s: float = float("-inf")
    seen_s: float = float("-inf")
    reading: Reading = _COUNTING
    unreadable: bool = False


class TwinTraffic(ReadOnly):
    """A check on the twins of one port."""

    kind = "traffic"

    def __init__(
        self,
        root: Root,
        ports: Sequence[RdmaPort],
        identity: tuple[str, str],
        owners: Callable[[str], frozenset[str]],
        clock: Clock = time,
    ) -> None:
        """Count from now; `owners` gives who holds queue pairs on a device, and raises OSError."""
        self._root = root
        self._places = {
            port.device: f"/sys/class/infiniband/{port.device}/ports/{port.number}/counters" for port in ports
        }
        self._owners = owners
        self._clock = clock
        self.flow = Flow()
        self.location = ", ".join(f"{place}/port_xmit_data" for place in self._places.values())
        self.identity = identity

    def read(self) -> Reading:
        """Whether both or neither moved data since the last reading, a minute ago."""
        flow, now_s = self.flow, self._clock.monotonic()
        if not flow.unreadable and now_s >= flow.due_s:
            flow.due_s = now_s + EVERY_S
            flow.reading = self._judge(now_s)
        return flow.reading

    def holds(self, wanted: Value) -> bool:
        """Whether it does as before."""
        before = self.flow.reading
        return self.read() == before and before.value == wanted

    def expire(self) -> None:
        """An event says nothing about traffic: bytes are compared over a whole minute."""

    def inherit(self, former: Attribute) -> None:
        """Go on counting where the former one stopped."""
        if isinstance(former, TwinTraffic):
            self.flow = former.flow

    def _judge(self, now_s: float) -> Reading:
        flow = self.flow
        try:
            moved = {device: self._moved(place) for device, place in self._places.items()}
        except OSError as error:  # counters that cannot be read are not read twice
            flow.unreadable = True
            return Reading(ReadingKind.ABSENT, reason=describe_error(error, "count what the twins move"))
        before, flow.moved = flow.moved, moved
        if not before:
            return _COUNTING
        grown = {device: max(count - before.get(device, count), 0) for device, count in moved.items()}
        busiest = max(grown, key=grown.__getitem__)
        silent = [device for device, count in grown.items() if not count]
        if silent and grown[busiest] >= MUCH_BYTES:
            found = self._accuse(silent[0], busiest, grown[busiest])
            if found.kind is ReadingKind.VALUE and found.value != TOGETHER:
                flow.seen_s = now_s
            return found
        is_told = flow.reading.kind is ReadingKind.VALUE and flow.reading.value != TOGETHER
        if is_told and silent and now_s - flow.seen_s < QUIET_S:  # nothing that speaks against it yet
            return flow.reading
        return Reading(ReadingKind.VALUE, TOGETHER)

    def _moved(self, place: str) -> int:
        return _WORD * sum(read_number(self._root, f"{place}/{name}") for name in _COUNTED)

    def _accuse(self, silent: str, busy: str, count: int) -> Reading:
        """One twin is silent; that is a finding only if somebody meant to use both."""
        said = f"{plain(busy)} moved {count / 1e9:.1f} GB since the last look, {plain(silent)} nothing"
        try:
            both = sorted(self._owners(silent) & self._owners(busy))
        except OSError as error:
            why = describe_error(error, "ask for queue pairs")
            return Reading(ReadingKind.ABSENT, reason=f"{said}; who holds both cannot be told ({why})")
        if not both:
            return Reading(ReadingKind.VALUE, TOGETHER, f"{said}; nobody holds queue pairs on both")
        return Reading(
            ReadingKind.VALUE, f"{plain(silent)} moves nothing", f"{said}; {plain(both[0])} holds both"
        )
