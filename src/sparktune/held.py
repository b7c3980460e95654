"""One tunable under management and how it stands, and what changes around it. Does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparktune.contest import Contest
from sparktune.frozen import frozen
from sparktune.model import Policy, Reading, ReadingKind, Tunable, Value, Verdict
from sparktune.published import timestamp

if TYPE_CHECKING:
    from sparktune.snapshot import LastDrift

_UNREAD = Reading(ReadingKind.ABSENT, reason="not read yet")


@dataclass(slots=True, eq=False, kw_only=True)
class Held:
    """One tunable under management and how it stands. Changes only through the engine.

    Attributes:
        tunable: what is held.
        policy: the effective policy, after `mode`.
        layer: the configuration layer that decided the wanted value.
        reading: what was read last.
        verdict: what was concluded from it.
        reason: why, where the verdict does not say it.
        since: since when the verdict stands, RFC 3339 UTC.
        contest: the fight over it.
        heals: how often it was healed.
        last_drift: the latest drift, once its cause is known.
        armed: what to write at once when somebody wrote; None while that takes a closer look.
        version: counts every change that a reader of the snapshot can see.
        left: when its device left, as people read it; empty while it is there.
        missed_s: since when no discovery has found it although its device is there (CLOCK_MONOTONIC).
        refused: wanted, found, verdict and reason of a write; not tried again until one of them changes.
    """

    tunable: Tunable
    policy: Policy
    layer: str
    reading: Reading = _UNREAD
    verdict: Verdict = Verdict.ABSENT
    reason: str = ""
    since: str = ""
    contest: Contest = field(default_factory=Contest)
    heals: int = 0
    last_drift: LastDrift | None = None
    version: int = 0
    left: str = ""
    missed_s: float | None = None
    armed: bytes | None = None
    refused: tuple[Value | None, Value | None, Verdict, str] | None = None

    @property
    def key(self) -> str:
        """What its original is kept under."""
        return f"{self.tunable.attribute.identity[1]} {self.tunable.attribute.location}"

    @property
    def actual(self) -> Value | None:
        """The value last read."""
        return self.reading.value

    def conclude(self, verdict: Verdict, reading: Reading, reason: str = "") -> bool:
        """Set verdict, reading and reason; True if any of them changed."""
        if verdict is self.verdict and reading == self.reading and reason == self.reason:
            return False
        if verdict is not self.verdict or not self.since:
            self.since = timestamp()
        self.verdict, self.reading, self.reason = verdict, reading, reason
        self.version += 1
        if verdict is not Verdict.OK:
            self.armed = None
        return True

    def miss(self, now_s: float) -> float:
        """A discovery did not find it; for how many seconds none has."""
        if self.missed_s is None:
            self.missed_s = now_s
        return now_s - self.missed_s

    def forgive(self) -> None:
        """Forget refusals: value, device or configuration changed, so trying again makes sense."""
        self.refused = None


@frozen
class PlannedWrite:
    """One write that `apply` would do.

    Attributes:
        held: the tunable.
        found: what is there now.
        before: what must be made first: `mkdir …`.
    """

    held: Held
    found: Value | None
    before: tuple[str, ...]


@frozen
class Adoption:
    """What a new discovery changed.

    Attributes:
        added: tunables that are new, or whose device instance is.
        released: tunables that the configuration no longer manages, to be put back.
        left: tunables whose device left.
    """

    added: tuple[Held, ...]
    released: tuple[Held, ...]
    left: tuple[Held, ...]
