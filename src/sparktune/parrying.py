"""Answers writes of others in two steps: at once what cannot wait, a moment later the books of it.

At once: put the value back and glimpse the writer, who may be gone in a few microseconds. The writer often
waits for our CPU meanwhile, so everything else is done when it had its turn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sparktune.attribution import Attributor
from sparktune.model import Action, Cause, CauseKind, Drift, Noticed, Verdict

if TYPE_CHECKING:
    from sparktune.attribution import Glimpse
    from sparktune.held import Held
    from sparktune.keeper import Keeper
    from sparktune.kernel.watch import WriteEvent
    from sparktune.model import Process

BOOKS_AFTER_S = 0.001
"""So long the books may wait, counted from the first write that is not yet in them."""

MOST_WAITING = 512

_KNOWN_FOR_S = 0.1
"""So long a pid stays the process it was: far shorter than it takes to use up all others."""


@dataclass(slots=True)
class _Answer:
    """A write that was answered and is not yet in the books.

    Attributes:
        pid: the writer's.
        held: the tunable.
        overwritten: what a parry found and overwrote; None if the engine has judged already.
        drift: the engine's judgement; None after a parry.
        took_us: from wake-up to the write.
    """

    pid: int
    held: Held
    overwritten: bytes | None
    drift: Drift | None
    took_us: int


class Parrying:
    """The daemon's handler of write events."""

    def __init__(self, keeper: Keeper) -> None:
        """Answer for this keeper."""
        self._keeper = keeper
        self._engine = keeper.engine
        self._watches = keeper.watches
        self.attributor = Attributor()
        self._events: list[WriteEvent] = []
        self._answers: list[_Answer] = []
        self._glimpses: dict[int, Glimpse] = {}
        self._known: dict[int, tuple[float, Cause]] = {}
        self._due_s: float | None = None

    def on_writes(self, woke_s: float) -> None:
        """Somebody wrote: put the values back, and see who it was."""
        engine, glimpses = self._engine, self._glimpses
        unarmed: list[tuple[int, Held]] = []
        for event in self._watches.read():
            pid = event.pid
            for held in self._watches.find(event):
                overwritten = engine.parry(held)
                if pid not in glimpses and not self._is_known(pid, woke_s):
                    glimpses[pid] = self.attributor.glimpse(pid, event.pidfd)
                if overwritten is None:
                    unarmed.append((pid, held))
                else:
                    self._answers.append(_Answer(pid, held, overwritten, None, _since_us(woke_s)))
            self._events.append(event)
        if unarmed:
            self._look(unarmed, woke_s)
        if self._due_s is None:
            self._due_s = woke_s + BOOKS_AFTER_S
        if len(self._answers) > MOST_WAITING:
            self.keep_books()

    def _is_known(self, pid: int, now_s: float) -> bool:
        known = self._known.get(pid)
        return known is not None and now_s - known[0] < _KNOWN_FOR_S

    def _look(self, unarmed: list[tuple[int, Held]], woke_s: float) -> None:
        noticed = self._watches.noticed
        if noticed is Noticed.FANOTIFY:  # not our own write: a refusal may be over
            for _, held in unarmed:
                held.forgive()
        drifts = self._engine.look_together([held for _, held in unarmed], noticed)
        for (pid, held), drift in zip(unarmed, drifts, strict=True):
            if drift is not None:
                self._answers.append(_Answer(pid, held, None, drift, _since_us(woke_s)))

    def forget(self) -> None:
        """Drop what is known of processes that ended long ago."""
        if self.attributor.exits is not None:
            self.attributor.exits.forget()

    def catch_up(self) -> None:
        """Deal with every write up to now: a sweep would find the same values, and nobody to name."""
        self.on_writes(time.monotonic())
        self.keep_books()

    def due_s(self) -> float | None:
        """When the books are due; None if nothing waits."""
        return self._due_s

    def keep_books(self) -> None:
        """Verify what was put back, look closer at who wrote, and tell it."""
        events, self._events = self._events, []
        answers, self._answers = self._answers, []
        self._due_s = None
        self._know({answer.pid for answer in answers})
        causes = {answer.pid: self._known[answer.pid][1] for answer in answers}
        found: dict[int, list[Drift]] = {}
        for answer in answers:
            drift = self._judge(answer)
            if drift is not None:
                found.setdefault(answer.pid, []).append(_timed(drift, answer.took_us))
            if not self._engine.holds(answer.held):
                self._look_twice(answer.held)
        for pid, drifts in found.items():
            self._accuse(causes[pid], drifts)
        for pid, drifts in found.items():
            self._attribute(causes[pid], drifts)
        for event in events:
            event.close()
        if any(event.inode is None for event in events):
            self._keeper.overflow("file")

    def _judge(self, answer: _Answer) -> Drift | None:
        if answer.overwritten is None:
            return answer.drift
        return self._engine.account(answer.held, answer.overwritten, self._watches.noticed)

    def _look_twice(self, held: Held) -> None:
        """It does not hold after all: the next writer's event says who, or there is none and nobody knows."""
        self.on_writes(time.monotonic())
        if any(answer.held is held for answer in self._answers) or self._engine.holds(held):
            return
        drift = self._engine.look(held, Noticed.SWEEP)
        if drift is not None:
            self._keeper.take_account([drift], Noticed.SWEEP, Cause(kind=CauseKind.UNKNOWN))

    def _know(self, writers: set[int]) -> None:
        """Look closer at new writers; a burst by one process asks once."""
        now_s = time.monotonic()
        self._known = {
            pid: seen for pid, seen in self._known.items() if pid in writers or now_s - seen[0] < _KNOWN_FOR_S
        }
        for pid, glimpse in self._glimpses.items():
            self._known[pid] = now_s, self.attributor.tell(glimpse)
        self._glimpses.clear()

    def _accuse(self, cause: Cause, drifts: list[Drift]) -> None:
        """Whoever made a heal necessary may become a rival."""
        if cause.process is None:
            return
        for drift in drifts:
            held = self._engine.held.get(drift.tunable)
            if held is not None and held.verdict is not Verdict.PAUSED:
                who = _tell_apart(cause.process, cause.parent)
                self._engine.accuse(held, who, _name(cause.process, cause.parent))
        self._keeper.remember_writer([drift.tunable for drift in drifts], cause.process)

    def _attribute(self, cause: Cause, drifts: list[Drift]) -> None:
        told = [self._with_rivals(drift) for drift in drifts]
        self._keeper.take_account(told, self._watches.noticed, cause)

    def _with_rivals(self, drift: Drift) -> Drift:
        """What was left standing, with all who are behind it; when it was judged they were not known yet."""
        held = self._engine.held.get(drift.tunable)
        if held is None or held.verdict is not Verdict.CONTESTED or drift.action is not Action.LEFT:
            return drift
        return replace(drift, reason=held.reason)


def _tell_apart(process: Process, parent: Process | None) -> str:
    """The same for every process a rival sends: what a loop or cron starts has a new pid each time."""
    if process.unit is not None and process.unit.endswith(".service"):
        return f"{process.comm} {process.unit}"
    return process.label if parent is None else f"{process.comm} {parent.label}"


def _name(process: Process, parent: Process | None) -> str:
    """What a person can stop: `sh[812] in rival.service`, `sleep[3936] (child of bash[3911])`."""
    unit = f" in {process.unit}" if process.unit else ""
    return process.label + unit + (f" (child of {parent.label})" if parent and parent.pid != 1 else "")


def _timed(drift: Drift, took_us: int) -> Drift:
    return replace(drift, took_us=took_us) if drift.action is Action.HEALED else drift


def _since_us(woke_s: float) -> int:
    return round((time.monotonic() - woke_s) * 1e6)
