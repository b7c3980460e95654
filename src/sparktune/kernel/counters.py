"""Counters of errors, judged by what they grow: read at most once a minute, and after events.

A counter that cannot be read costs only itself, and is not read twice: with some firmware each try makes the
driver write a line to the kernel's log.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sparktune.fabric.growth import Growth
from sparktune.kernel.attribute import FORBIDDEN, GONE, describe_error
from sparktune.kernel.check import ReadOnly
from sparktune.kernel.lockdown import add_lockdown
from sparktune.model import Attribute, Reading, ReadingKind, Value
from sparktune.published import timestamp
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.kernel.root import Root

EVERY_S = 60.0
UNREADABLE = "unreadable"
"""How the reason of a counter begins that is there and answers with an error."""

_COUNTING = Reading(ReadingKind.ABSENT, reason="counting from now; judged a minute later")
_MOST_DIGITS = 20  # of an unsigned 64-bit number


class Clock(Protocol):
    """What tells the time: the module `time`, or a test."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""


@dataclass(slots=True)
class Count:
    """What is known of a counter so far.

    Attributes:
        growth: how it grew.
        reading: what it was judged to be last.
        since: since when the growth that is told goes on, for people.
        due_s: when it is read next, by CLOCK_MONOTONIC.
        unreadable: why it is not read any more; empty while it is.
    """

    growth: Growth = field(default_factory=Growth)
    reading: Reading = _COUNTING
    since: str = ""
    due_s: float = float("-inf")
    unreadable: str = ""


class CounterCheck(ReadOnly):
    """A check: by how much a counter grew lately. See `fabric/growth.py` for what lately means."""

    kind = "counter"

    def __init__(
        self, source: Callable[[], int], location: str, identity: tuple[str, str], clock: Clock = time
    ) -> None:
        """Count what `source` gives; it raises OSError as the kernel does."""
        self._source = source
        self._clock = clock
        self.count = Count()
        self.location = location
        self.identity = identity

    def read(self) -> Reading:
        """By how much it grew lately; absent where there is nothing to compare with yet."""
        count, now_s = self.count, self._clock.monotonic()
        if not count.unreadable and now_s >= count.due_s:
            count.due_s = now_s + EVERY_S
            count.reading = self._take(now_s)
        return count.reading

    def holds(self, wanted: Value) -> bool:
        """Whether it still stands."""
        before = self.count.reading
        now = self.read()
        return now.value == wanted and (now is before or now == before)

    def expire(self) -> None:
        """Something happened to its device: read it anew."""
        self.count.due_s = float("-inf")

    def inherit(self, former: Attribute) -> None:
        """Go on counting where the former one stopped."""
        if isinstance(former, CounterCheck):
            self.count = former.count

    def _take(self, now_s: float) -> Reading:
        count, growth = self.count, self.count.growth
        try:
            value = self._source()
        except OSError as error:
            reading = self._explain(error)
            count.unreadable = reading.reason
            return reading
        is_first, was_quiet = growth.last is None, not growth.total
        told = growth.take(value, now_s)
        if is_first:
            return _COUNTING
        if growth.total and was_quiet:
            count.since = timestamp()
        return Reading(ReadingKind.VALUE, told, f"grew by {told} since {count.since}" if told else "")

    def _explain(self, error: OSError) -> Reading:
        if error.errno in GONE | {errno.EOPNOTSUPP}:
            return Reading(ReadingKind.ABSENT, reason=f"the driver does not tell {self.location}")
        said = describe_error(error, f"read {self.location}")
        if error.errno in FORBIDDEN:
            return Reading(ReadingKind.BLOCKED, reason=said)
        reason = f"{UNREADABLE}, so not read again until its device comes back: {said}"
        return Reading(ReadingKind.ABSENT, reason=reason)


def read_number(root: Root, name: str) -> int:
    """The number in a sysfs file. Raises OSError: as the kernel gave it, or ENODATA if it holds no number."""
    try:
        text = root.fetch(name).strip()
    except OSError as error:
        raise add_lockdown(root, error) from error
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise OSError(errno.ENODATA, f"no number: {plain(text.decode(errors='replace'))}", name)
    return int(text)
