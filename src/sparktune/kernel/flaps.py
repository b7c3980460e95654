"""How often a link went down lately, and for how long: the number from sysfs, the length from events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparktune.fabric.growth import Growth
from sparktune.kernel.attribute import FileAttribute
from sparktune.kernel.check import ReadOnly
from sparktune.model import Attribute, Reading, ReadingKind, Value
from sparktune.published import timestamp

if TYPE_CHECKING:
    from sparktune.kernel.counters import Clock
    from sparktune.kernel.root import Root

_NET = "/sys/class/net"
_COUNTING = Reading(ReadingKind.ABSENT, reason="counting from now; judged at the next look")


@dataclass(slots=True)
class Story:
    """What is known of a link's downs so far. Times are CLOCK_MONOTONIC, texts are for people.

    Attributes:
        growth: how often it went down.
        carrier: whether it was up when it was heard of last.
        since: when it went down first after a quiet time, or was seen to have.
        down_at: when it was heard to go down last; empty if that was not heard.
        down_s: the same on the clock.
        back_s: after how many seconds it was back; None while it is down, or if that was not heard.
        told: what was told last.
    """

    growth: Growth = field(default_factory=Growth)
    carrier: bool | None = None
    since: str = ""
    down_at: str = ""
    down_s: float = 0.0
    back_s: float | None = None
    told: Reading = _COUNTING

    def tell(self) -> str:
        """One sentence about the downs."""
        times = "once" if self.growth.told == 1 else f"{self.growth.told} times"
        said = f"went down {times} since {self.since}"
        if not self.down_at:
            return said
        if self.back_s is None:
            return f"{said}; down since {self.down_at}"
        return f"{said}; the last time at {self.down_at} for {self.back_s:.1f} s"


class LinkFlaps(ReadOnly):
    """A check: how often the link of an interface went down lately; see `fabric/growth.py` for lately."""

    kind = "flaps"

    def __init__(
        self,
        root: Root,
        netdev: str,
        identity: tuple[str, str],
        *,
        carrier: bool | None,
        clock: Clock = time,
    ) -> None:
        """Count from now; `carrier` is what the link is at present."""
        self._netdev = netdev
        self._clock = clock
        # since kernel 4.16: Documentation/ABI/testing/sysfs-class-net
        name = f"{_NET}/{netdev}/carrier_down_count"
        self._file = FileAttribute(root, name, identity=identity, writable=False)
        self.story = Story(carrier=carrier)
        self.location = self._file.location
        self.identity = identity

    def hear(self, name: str, *, carrier: bool) -> None:
        """Remember when it went down, and how long it was."""
        story = self.story
        if name != self._netdev or carrier == story.carrier:
            return
        if not carrier:
            story.down_at, story.down_s, story.back_s = timestamp(), self._clock.monotonic(), None
        elif story.down_at and story.back_s is None:
            story.back_s = self._clock.monotonic() - story.down_s
        story.carrier = carrier

    def read(self) -> Reading:
        """How often it went down lately."""
        found = self._file.read()
        if not isinstance(found.value, int):
            return found
        story, growth = self.story, self.story.growth
        is_first, was_quiet, before = growth.last is None, not growth.total, growth.told
        told = growth.take(found.value, self._clock.monotonic())
        if is_first:
            story.told = _COUNTING
        elif not told:
            story.told = Reading(ReadingKind.VALUE, 0)
        elif told != before or growth.total == told:
            if was_quiet:
                story.since = story.down_at or timestamp()
            story.told = Reading(ReadingKind.VALUE, told, story.tell())
        return story.told

    def holds(self, wanted: Value) -> bool:
        """Whether it did not go down lately."""
        before, growth = self.story.told, self.story.growth
        if not growth.total and growth.last is not None and self._file.holds(growth.last):
            return before.value == wanted  # quiet, and still is: nothing else to be told
        return self.read() == before and before.value == wanted

    def expire(self) -> None:
        """Each reading asks the kernel as it is."""

    def inherit(self, former: Attribute) -> None:
        """Go on with the former one's story."""
        if isinstance(former, LinkFlaps):
            self.story = former.story

    def close(self) -> None:
        """Release the descriptor."""
        self._file.close()
