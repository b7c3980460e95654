"""When to stop fighting: counts the heals of one tunable, says when the next must not be, and who is why."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sparktune.frozen import frozen

LONGEST_HOLD_S = 24 * 3600.0
_DOUBLINGS = 20
_MOST_HEALS = 1000  # the highest `after`: older ones decide nothing
_MOST_RIVALS = 3


@frozen
class ContestRule:
    """The configured rule.

    Attributes:
        after: heals within the window that are still made; 0 never stops.
        window_s: the window.
        hold_s: the first hold; each further one is twice as long, up to 24 h.
    """

    after: int
    window_s: float
    hold_s: float


@dataclass(slots=True)
class Contest:
    """The fight over one tunable. Times are CLOCK_MONOTONIC seconds.

    Attributes:
        held_until_s: the end of the hold; 0 when none was ever needed.
    """

    held_until_s: float = 0.0
    _rivals: dict[str, tuple[float, str]] = field(default_factory=dict)
    _heals: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_HEALS))
    _level: int = 0
    _hold_s: float = 0.0

    def is_held(self, now_s: float) -> bool:
        """Whether the drift is to be left standing now."""
        return now_s < self.held_until_s

    def allows_heal(self, now_s: float, rule: ContestRule) -> bool:
        """Whether one more heal may be made; if not, a hold begins (or goes on)."""
        if self.is_held(now_s):
            return False
        if rule.after == 0:
            return True
        if self._level and now_s - self.held_until_s >= self._hold_s:
            self._level = 0  # one whole hold passed in peace: the next fight starts small again
        while self._heals and now_s - self._heals[0] > rule.window_s:
            self._heals.popleft()
        if len(self._heals) < rule.after:
            return True
        self._hold_s = min(rule.hold_s * 2.0 ** min(self._level, _DOUBLINGS), LONGEST_HOLD_S)
        self.held_until_s = now_s + self._hold_s
        self._level += 1
        self._heals.clear()
        self._rivals = {who: seen for who, seen in self._rivals.items() if now_s - seen[0] <= rule.window_s}
        return False

    def has_room(self, rule: ContestRule) -> bool:
        """Whether one more heal is certainly allowed, without looking at the clock."""
        return rule.after == 0 or (self.held_until_s == 0.0 and len(self._heals) < rule.after)

    def count_heal(self, now_s: float) -> None:
        """Note a heal."""
        self._heals.append(now_s)

    def accuse(self, who: str, name: str, now_s: float) -> None:
        """Note who was seen writing.

        Args:
            who: tells one rival from another, whatever its pid is this time.
            name: for people.
            now_s: when.
        """
        self._rivals.pop(who, None)
        self._rivals[who] = now_s, name
        while len(self._rivals) > _MOST_RIVALS:
            del self._rivals[next(iter(self._rivals))]

    @property
    def rivals(self) -> str:
        """The latest rivals, for people; empty if nobody was seen."""
        return " and ".join(name for _, name in self._rivals.values())

    def describe(self) -> str:
        """Why the value is left standing."""
        who = f"{self.rivals or 'somebody'} {'keep' if len(self._rivals) > 1 else 'keeps'}"
        return f"{who} writing it back; left alone for {self._hold_s / 60:.0f} min"

    def end(self) -> None:
        """Forget the fight: a person said `apply`."""
        self.held_until_s = 0.0
        self._rivals.clear()
        self._heals.clear()
        self._level = 0
