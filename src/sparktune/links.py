"""What becomes of link and address events: nothing for interfaces that touch nothing; else a look, soon.

The first event of an interface is looked after at once and once more a moment later, for what the kernel does
after it tells (a GID follows its address). A link that keeps flapping is looked after less and less often.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparktune.kernel.connectx import is_function
from sparktune.model import Cause, CauseKind, Listening, Noticed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.keeper import Keeper
    from sparktune.kernel.rtnetlink import LinkEvent

SECOND_LOOK_S = 0.5
LONGEST_WAIT_S = 15.0
"""How long a link that keeps flapping waits for the next look at it."""
CALM_S = 30.0
"""After so long without an event the next one is answered at once again."""


@dataclass(slots=True)
class _Unrest:
    """An interface that something happened to: when, when it is looked at next, and how patient that is."""

    heard_s: float
    looked_s: float
    due_s: float
    wait_s: float = SECOND_LOOK_S
    since: bool = False

    def hear(self, now_s: float) -> None:
        """Another event while it has not calmed down."""
        self.heard_s = now_s
        if self.due_s == math.inf:
            self.wait_s = min(2 * self.wait_s, LONGEST_WAIT_S)
            self.due_s = max(now_s, self.looked_s + self.wait_s)
        self.since = True

    def look(self, now_s: float) -> None:
        """It is looked at now; once more later if something happened since the last look."""
        self.looked_s = now_s
        if self.since:
            self.wait_s = min(2 * self.wait_s, LONGEST_WAIT_S)
        self.due_s = now_s + self.wait_s if self.since else math.inf
        self.since = False


class Links:
    """The interfaces that are in motion. Times are CLOCK_MONOTONIC seconds."""

    def __init__(self, keeper: Keeper) -> None:
        """Nothing is in motion."""
        self._keeper = keeper
        self._unrest: dict[str, _Unrest] = {}

    def on_events(self, events: Iterable[LinkEvent]) -> None:
        """Tell those who listen, and look after the interfaces that were quiet so far."""
        events = list(events)
        names = self._concerned({event.name for event in events})
        if not names:
            return
        listeners = [
            held.tunable.attribute
            for held in self._keeper.engine.held.values()
            if isinstance(held.tunable.attribute, Listening)
        ]
        for event in events:
            if event.carrier is not None and event.name in names:
                for listener in listeners:
                    listener.hear(event.name, carrier=event.carrier)
        now_s = time.monotonic()
        new: set[str] = set()
        for name in names:
            one = self._unrest.get(name)
            if one is None or now_s - one.heard_s >= CALM_S:
                self._unrest[name] = _Unrest(now_s, now_s, now_s + SECOND_LOOK_S)
                new.add(name)
            else:
                one.hear(now_s)
        self._look(new)

    def due_s(self) -> float | None:
        """When the next look is due; None while every link is quiet."""
        due_s = min((one.due_s for one in self._unrest.values()), default=math.inf)
        return None if due_s == math.inf else due_s

    def turn(self) -> None:
        """Do the looks that are due."""
        now_s = time.monotonic()
        due = {name for name, one in self._unrest.items() if one.due_s <= now_s}
        for name in due:
            self._unrest[name].look(now_s)
        self._look(due)

    def _concerned(self, names: set[str]) -> set[str]:
        """Those that touch something held, or are ConnectX functions, whose carriers others ask for."""
        touched = self._keeper.touched()
        root = self._keeper.tuner.host.root
        return {name for name in names if name in touched or is_function(root, "net", name)}

    def _look(self, names: set[str]) -> None:
        if not names:
            return
        tuner = self._keeper.tuner
        cause = Cause(kind=CauseKind.DEVICE, detail=f"link change of {', '.join(sorted(names))}")
        if changed := tuner.changed_areas():
            self._keeper.rediscover(changed, Noticed.RTNETLINK, cause)
        self._keeper.look_after(tuner.areas_of("net"), Noticed.RTNETLINK, cause, frozenset(names))
