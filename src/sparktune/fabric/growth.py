"""How counters of errors are judged: growth is told until ten quiet minutes have passed. Pure, no clock.

A counter as such says nothing: it may stem from weeks ago. What grew lately is a finding, and stays one long
enough to be seen; it is told anew when the number has doubled, or ten minutes after it was last told.
"""

from __future__ import annotations

from dataclasses import dataclass

QUIET_S = 600.0
"""How long a counter must stand still until it is no finding any more."""
RETOLD_S = 600.0
"""How long a number that goes on growing is told unchanged, unless it doubles."""


@dataclass(slots=True)
class Growth:
    """One counter as it grew. Times are CLOCK_MONOTONIC seconds.

    Attributes:
        last: the value last seen; None before the first.
        total: by how much it grew since `since_s`.
        told: the total as it is told.
        since_s: when it was seen to have grown first after a quiet time.
        grew_s: when it was seen to have grown last.
        told_s: when `told` became what it is.
    """

    last: int | None = None
    total: int = 0
    told: int = 0
    since_s: float = 0.0
    grew_s: float = 0.0
    told_s: float = 0.0

    def take(self, value: int, now_s: float) -> int:
        """Take in what the counter shows now. Returns the growth to be told; 0: it holds."""
        before, self.last = self.last, value
        self._forget(now_s)
        if before is None or value == before:
            return self.told
        grown = value - before if value > before else value  # it was reset, and counted on from 0
        if not self.total:
            self.since_s = now_s
        if not grown:
            return self.told
        self.total += grown
        self.grew_s = now_s
        if self.total >= 2 * self.told or now_s - self.told_s >= RETOLD_S:
            self.told, self.told_s = self.total, now_s
        return self.told

    def _forget(self, now_s: float) -> None:
        if self.total and now_s - self.grew_s >= QUIET_S:
            self.total = self.told = 0
