"""Looks for conflicts beside the daemon's work: after the first apply, in slices of a few ms, and tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from sparktune.conflicts.look import Look
    from sparktune.conflicts.ours import Ours
    from sparktune.recorder import Recorder
    from sparktune.snapshot import Conflict, Conflicts
    from sparktune.tuner import Tuner

SLICE_S = 0.002
"""At most about this long between two looks at the events."""
REST_S = 0.01
SETTLE_S = 2.0
"""After new tunables appeared: their siblings come with the next events."""
AGAIN_S = 60.0
"""Between two looks for new tunables: a link that comes and goes must not make us read all day."""
MOST_LINES = 20


class ConflictWatch:
    """When to look, and what was found last."""

    def __init__(self, tuner: Tuner, recorder: Recorder, log: FilteringBoundLogger) -> None:
        """Nothing is due until `begin`."""
        self._tuner = tuner
        self._recorder = recorder
        self._log = log
        self._ours: Ours | None = None
        self._look: Look | None = None
        self._due_s: float | None = None
        self._ended_s = float("-inf")
        self._told: set[tuple[str, int, str | None, bool | None]] = set()

    def begin(self) -> None:
        """Look now, anew if a look is under way."""
        self._ours = self._look = None
        self._due_s = time.monotonic()

    def begin_later(self) -> None:
        """Look again because new tunables appeared; once for all that come within a while."""
        if self._due_s is None:
            self._due_s = max(time.monotonic() + SETTLE_S, self._ended_s + AGAIN_S)

    def due_s(self) -> float | None:
        """When `turn` has something to do next, on CLOCK_MONOTONIC."""
        return self._due_s

    def turn(self) -> None:
        """Do the next slice if it is due."""
        began_s = time.monotonic()
        if self._due_s is None or began_s < self._due_s:
            return
        if self._look is None:
            self._start()
            self._due_s = began_s
            return
        while self._look.step():
            if time.monotonic() - began_s >= SLICE_S:
                self._due_s = time.monotonic() + REST_S
                return
        found = self._look.finish()
        self._look = self._due_s = None
        self._ended_s = time.monotonic()
        self._tell(found)
        self._recorder.publish_conflicts(found)

    def _start(self) -> None:
        """Two slices of their own: what is imported here the first time takes some ms."""
        if self._ours is None:
            from sparktune.conflicts.ours import Ours

            self._ours = Ours.of(self._tuner)
        else:
            from sparktune.conflicts.look import Look

            self._look, self._ours = Look(self._ours), None

    def _tell(self, conflicts: Conflicts) -> None:
        """One line for each conflict that was not told yet."""
        new = [one for one in conflicts.found if _key(one) not in self._told]
        for one in new[:MOST_LINES]:
            tell = self._log.info if one.agrees else self._log.warning
            tell(
                "conflict",
                who=one.who,
                file=f"{one.file}:{one.line}",
                attribute=one.attribute or one.area,
                tunables=one.tunables,
                value=one.value,
                wanted=one.wanted,
                agrees={True: "yes", False: "no", None: "unknown"}[one.agrees],
            )
        if len(new) > MOST_LINES:
            self._log.warning("more conflicts: sparktune detect", count=len(new) - MOST_LINES)
        if conflicts.gaps:
            self._log.info("conflicts: not looked at", first=conflicts.gaps[0], count=len(conflicts.gaps))
        self._told = {_key(one) for one in conflicts.found}


def _key(conflict: Conflict) -> tuple[str, int, str | None, bool | None]:
    return conflict.file, conflict.line, conflict.value, conflict.agrees
