"""What triggers make the daemon do: look again, discover again, sweep; and keep the books of it.

Decides nothing about single tunables: the engine does. Waits for nothing: the daemon's loop does.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.model import Cause, CauseKind, Drift, Noticed, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from structlog.typing import FilteringBoundLogger

    from sparktune.held import Held
    from sparktune.recorder import Recorder
    from sparktune.restoring import Outcome
    from sparktune.supervision import Supervisor
    from sparktune.tuner import Tuner
    from sparktune.watches import Watches

SECOND_LOOK_S = 1.0
"""Checks of an effect need two readings: after a start or a reload the second one comes this soon."""

_SUSPECT_FOR_S = 600.0
_MOST_SUSPECTS = 3


class Keeper:
    """Holds the host, one trigger at a time."""

    def __init__(
        self,
        tuner: Tuner,
        recorder: Recorder,
        watches: Watches,
        supervisor: Supervisor,
        log: FilteringBoundLogger,
    ) -> None:
        """Work on these; the first sweep is due at once."""
        self.tuner = tuner
        self.engine = tuner.engine
        self.recorder = recorder
        self.watches = watches
        self.next_sweep_s = 0.0
        self.discovered: Callable[[], None] | None = None
        self.catch_up: Callable[[], None] | None = None
        self._supervisor = supervisor
        self._log = log
        self._writers: dict[str, tuple[float, Process]] = {}

    @property
    def interval_s(self) -> float:
        """The sweep's interval, or half the watchdog's if that is shorter."""
        sweep_s = self.tuner.settings.sweep
        return min(sweep_s, self._supervisor.feed_every_s or sweep_s)

    def apply_all(self, noticed: Noticed, cause: Cause) -> int:
        """Write what differs, put back what is no longer managed; returns how many were written."""
        self.tuner.discover()
        self.watches.synchronise(self.engine.held.values())
        drifts = self.engine.apply(None, noticed)
        self.take_account(drifts, noticed, cause)
        self.tell(self.tuner.release())
        self.watches.synchronise(self.engine.held.values())
        self.recorder.verified()
        self.next_sweep_s = time.monotonic() + min(SECOND_LOOK_S, self.interval_s)
        return len(drifts)

    def rediscover(
        self, names: Iterable[str] | None, noticed: Noticed, cause: Cause, device: str | None = None
    ) -> None:
        """Find some areas' tunables anew, apply what is new, put back what is no longer managed."""
        before = {id_ for id_, held in self.engine.held.items() if held.left}
        adoptions = self.tuner.discover(names, device, patient=True)
        left = Counter(
            (held.tunable.area, held.tunable.device)
            for adoption in adoptions
            for held in adoption.left
            if held.tunable.id not in before
        )
        for (area, name), count in left.items():
            seen = cause.detail or noticed.value
            self._log.info("device left", area=area, device=name, tunables=count, noticed=seen)
        self.watches.synchronise(self.engine.held.values())
        added = {held.tunable.id for adoption in adoptions for held in adoption.added}
        if added:
            self.take_account(self.engine.apply(added, Noticed.START), Noticed.START, cause)
            self.watches.synchronise(self.engine.held.values())
            if self.discovered is not None:
                self.discovered()
        chosen = [held for held in self.engine.choose(names) if device in (None, held.tunable.device)]
        self._look([held for held in chosen if held.tunable.id not in added], noticed, cause)
        if any(adoption.released for adoption in adoptions):
            self.tell(self.tuner.release())
        self.recorder.touch()

    def look_again(self, cause: Cause) -> None:
        """Judge everything anew after a request changed what may be healed.

        As a sweep does: only `apply` ends a hold, or writes what disturbs traffic.
        """
        self._look(self.engine.choose(None), Noticed.SWEEP, cause)

    def look_after(
        self,
        names: Iterable[str] | None,
        noticed: Noticed,
        cause: Cause,
        interfaces: frozenset[str] = frozenset(),
    ) -> None:
        """Judge some areas anew, because of an event that made no device come or go.

        With `interfaces` only what these touch, and what names no interface at all.
        """
        chosen = self.engine.choose(names)
        if interfaces:
            chosen = [
                held
                for held in chosen
                if not held.tunable.interfaces or not interfaces.isdisjoint(held.tunable.interfaces)
            ]
        self.engine.expire(chosen)
        self._look(chosen, noticed, cause)

    def touched(self) -> frozenset[str]:
        """The interfaces, RDMA devices and PCI functions whose events touch something that is held."""
        return frozenset(name for held in self.engine.held.values() for name in held.tunable.interfaces)

    def _look(self, chosen: Iterable[Held], noticed: Noticed, cause: Cause) -> None:
        drifts = [self.engine.look(held, noticed) for held in chosen]
        self.engine.finish()
        self.take_account([drift for drift in drifts if drift is not None], noticed, cause)

    def sweep(self, noticed: Noticed, cause: Cause) -> None:
        """Verify everything, then feed the watchdog: nothing else feeds it."""
        began_s = time.monotonic()
        changed = self.tuner.changed_areas()
        if changed:
            self.tuner.refresh_host()
            unseen = Cause(kind=CauseKind.UNKNOWN, detail="a change without an event")
            self.rediscover(changed, noticed, unseen if noticed is Noticed.SWEEP else cause)
        if self.catch_up is not None:  # who wrote meanwhile is known by his event: the sweep sees nobody
            self.catch_up()
        drifts = self.engine.sweep(noticed)
        if self.watches.are_outdated():
            self.watches.synchronise(self.engine.held.values())
        if drifts:
            took_us = round((time.monotonic() - began_s) * 1e6)
            timed = [replace(drift, took_us=took_us) for drift in drifts]
            self.take_account(timed, noticed, self._suspect(cause, drifts))
        ended_s = time.monotonic()
        self.next_sweep_s = ended_s + self.interval_s
        self.recorder.swept(took_us=round((ended_s - began_s) * 1e6))
        self._supervisor.feed()

    def overflow(self, what: str) -> None:
        """Events were lost: anything may have changed."""
        self.recorder.overflows += 1
        cause = Cause(kind=CauseKind.UNKNOWN, detail=f"{what} event queue overflow")
        self.rediscover(None, Noticed.SWEEP, cause)
        self.sweep(Noticed.SWEEP, cause)

    def take_account(self, drifts: Iterable[Drift], noticed: Noticed, cause: Cause) -> None:
        """Book drifts, and log what went wrong on the way."""
        self.recorder.add(drifts, noticed, cause)
        for name, error in self.engine.failures:
            self._log.error("could not deal with it", what=name, error=f"{type(error).__name__}: {error}")
        self.engine.failures.clear()

    def remember_writer(self, ids: Iterable[str], process: Process) -> None:
        """Somebody was seen writing these: suspect them of what the sweep finds there soon."""
        now_s = time.monotonic()
        self._writers |= dict.fromkeys(ids, (now_s, process))

    def _suspect(self, cause: Cause, drifts: Iterable[Drift]) -> Cause:
        now_s = time.monotonic()
        self._writers = {id_: seen for id_, seen in self._writers.items() if now_s - seen[0] < _SUSPECT_FOR_S}
        seen = [self._writers[drift.tunable][1] for drift in drifts if drift.tunable in self._writers]
        suspects = {process.pid: process for process in seen}
        return replace(cause, suspects=tuple(suspects.values())[:_MOST_SUSPECTS])

    def tell(self, outcomes: Iterable[Outcome]) -> None:
        """Log what became of originals that the configuration no longer manages."""
        outcomes = list(outcomes)
        restored = [outcome for outcome in outcomes if outcome.outcome == "restored"]
        if restored:
            self._log.info("no longer managed: restored", tunables=len(restored), first=restored[0].id)
        for outcome in outcomes:
            if outcome.outcome in {"left", "failed"}:
                self._log.warning(
                    "no longer managed: not restored", tunable=outcome.id, reason=outcome.reason
                )
