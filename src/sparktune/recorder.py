"""All that is told after the fact: episodes, log lines, counters, history and the published documents."""

from __future__ import annotations

import operator
import os
import secrets
import time
from bisect import bisect_left
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sparktune import __version__
from sparktune.attribution import writer
from sparktune.episodes import Episodes
from sparktune.errors import SparktuneError, StoreError
from sparktune.fabrics import build_fabric
from sparktune.hardware import describe
from sparktune.logs import DriftLog
from sparktune.model import Action, Noticed
from sparktune.places import make_directory
from sparktune.published import encode, publish, timestamp
from sparktune.publishing import (
    Context,
    TunablesText,
    build_config,
    build_drift,
    build_status,
    warn_of_conflicts,
)
from sparktune.settings import on_disk_changed
from sparktune.snapshot import (
    NOT_ADVISED,
    NOT_LOOKED,
    AdviceReport,
    Counters,
    Daemon,
    DriftSummary,
    LastDrift,
    Notice,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from structlog.typing import FilteringBoundLogger

    from sparktune.fabric.report import FabricReport
    from sparktune.hardware import Host
    from sparktune.history import History
    from sparktune.model import Cause, Drift, Episode
    from sparktune.places import Places
    from sparktune.settings import Effective
    from sparktune.snapshot import Conflicts
    from sparktune.tuner import Tuner
    from sparktune.watches import Watches

_EVERY_S = 0.5
_AGAIN_EVERY_SWEEPS = 3
"""A document is at most three sweeps old: with every third one they say anew when all was verified."""
_MOST_EPISODES = 50
_MOST_IDS = 8
_BUCKETS_US = (50, 100, 150, 250, 500, 1000, 2500, 5000, 10000, 100000, 1000000, 15000000)


class Recorder:
    """Keeps the books of one daemon and publishes them, at most twice a second."""

    def __init__(self, tuner: Tuner, places: Places, watches: Watches, log: FilteringBoundLogger) -> None:
        """Start with empty books."""
        self._tuner = tuner
        self._places = places
        self._watches = watches
        self._log = log
        self._episodes = Episodes()
        self._latest: deque[DriftSummary] = deque(maxlen=_MOST_EPISODES)
        self._history: History | None = None
        self._drift_log = DriftLog()
        self._tunables = TunablesText()
        self._instance = secrets.token_hex(8)
        self._started_at = timestamp()
        self._number = 0
        self._verified_at: str | None = None
        self._verified_s = time.monotonic()
        self._due = False
        self._changed = True  # nothing is published yet
        self._published_s = 0.0
        self._on_disk = True
        self._seen: tuple[object, ...] = ()
        self._documents: set[str] = set()
        self._status_head = ""
        self._shown_config: tuple[Effective, bool] | None = None
        self._shown_fabric: FabricReport | None = None
        self._conflicts = NOT_LOOKED
        self._advice = AdviceReport(
            looked_at=None, summary=NOT_ADVISED, findings=(), engines=(), ignored=(), unseen=""
        )
        self._shown_advice: AdviceReport | None = None
        self._shown_hardware: tuple[Host, Conflicts] | None = None
        self._unsupported = ""
        self._missing = False  # something of the last publication is not on disk
        self._complained = False
        self._history_told = False
        self._drifts: dict[str, Counter[str]] = {}
        self._heals: Counter[int] = Counter()
        self._heal_us_sum = 0
        self._sweeps = 0
        self._sweep_last_us = 0
        self.overflows = 0
        self.line = ""

    def start(self, history: History) -> None:
        """Open the history, and publish what does not change by itself."""
        self._history = history
        history.start()
        self._publish_hardware()

    def stop(self) -> None:
        """Close the open episodes, publish once more, and store what is queued."""
        if self._history is None:
            return
        self._close_episodes(float("inf"))
        self.publish()
        self._history.close()

    def configure(self) -> None:
        """Take over another configuration: its retention, and a new look at the files on disk."""
        history = self._tuner.settings.history
        if self._history is not None:
            self._history.configure(days=history.days, rows=history.rows)
        self._on_disk = True
        self.touch(at_once=True)

    # -- what happens ----------------------------------------------------------------------------------------

    def add(self, drifts: Iterable[Drift], noticed: Noticed, cause: Cause) -> None:
        """Book drifts by one writer."""
        areas: dict[str, list[Drift]] = {}
        for drift in drifts:
            areas.setdefault(drift.tunable.partition(".")[0], []).append(drift)
        now_s = time.monotonic()
        for area, found in areas.items():
            self._episodes.add(area, noticed, cause, found, now_s=now_s)
            self._book(area, found, cause)

    def _book(self, area: str, drifts: list[Drift], cause: Cause) -> None:
        at, by = timestamp(), writer(cause)
        counts = self._drifts.setdefault(area, Counter())
        for drift in drifts:
            counts[drift.action.value] += 1
            if drift.action is Action.HEALED and drift.took_us is not None:
                self._heals[bisect_left(_BUCKETS_US, drift.took_us)] += 1
                self._heal_us_sum += drift.took_us
            held = self._tuner.engine.held.get(drift.tunable)
            if held is not None:
                held.last_drift = LastDrift(at=at, found=drift.found, action=drift.action.value, by=by)
                held.version += 1

    def verified(self) -> None:
        """Everything was read and judged just now."""
        self._verified_at, self._verified_s = timestamp(), time.monotonic()
        self._due = True

    def swept(self, *, took_us: int) -> None:
        """A sweep ended."""
        self._sweeps += 1
        self._sweep_last_us = took_us
        self._on_disk = not on_disk_changed(self._tuner.effective)
        before, self._seen = self._seen, self._look_around()
        self._changed |= self._seen != before
        self._tell_history()
        self.verified()

    def _look_around(self) -> tuple[object, ...]:
        """All that the documents tell and that changes without a `touch`; cheap to compare."""
        engine = self._tuner.engine
        versions = sum([held.version for held in engine.held.values()])
        ends = tuple(pause.until() for pause in engine.marks.pauses())  # another second when clocks are set
        error = "" if self._history is None else self._history.error
        return self._on_disk, versions, ends, error, self._tuner.notes(), self._tuner.fabric()

    def touch(self, *, at_once: bool = False) -> None:
        """Something changed that a reader should see."""
        self._due = self._changed = True
        if at_once:
            self._published_s = 0.0

    def publish_conflicts(self, found: Conflicts) -> None:
        """Take over what a look for conflicts found; published with the next documents."""
        self._conflicts = found
        self.touch()

    def publish_advice(self, report: AdviceReport) -> None:
        """Take over what the advisor found; published soon if it says something new."""
        news = replace(report, looked_at=None) != replace(self._advice, looked_at=None)
        self._advice = report
        if news:
            self.touch()

    # -- episodes --------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """Do what is due, once a turn of the loop; True if something was published."""
        now_s = time.monotonic()
        due_s = self._episodes.due_s()
        if due_s is not None and due_s <= now_s:
            self._close_episodes(now_s)
        if self._due and now_s - self._published_s >= _EVERY_S:
            self.publish()
            return True
        return False

    def due_s(self) -> float | None:
        """When `turn` has something to do next."""
        dues = [self._episodes.due_s(), self._published_s + _EVERY_S if self._due else None]
        return min((due for due in dues if due is not None), default=None)

    def _close_episodes(self, now_s: float) -> None:
        for episode in self._episodes.close(now_s=now_s):
            self._latest.appendleft(summarise(episode))
            if self._history is not None:
                self._history.add(episode)
            self._tell(episode)
            self._due = self._changed = True

    def _tell(self, episode: Episode) -> None:
        skipped = self._drift_log.allow(time.monotonic())
        if skipped is None:
            return
        first = episode.drifts[0]
        process = episode.cause.process
        by = process.label if process else (episode.cause.detail or episode.cause.kind.value)
        tunables = len({drift.tunable for drift in episode.drifts})
        fields: dict[str, Any] = {
            "area": episode.area, "tunables": tunables, "first": first.tunable, "wanted": first.wanted,
            "found": first.found, "by": by, "noticed": episode.noticed.value,
        }  # fmt: skip
        if episode.count > tunables:
            fields["changes"] = episode.count
        if process is not None:
            fields |= {"uid": process.uid, "unit": process.unit or "none"}
        if episode.took_us is not None:
            fields["took_us"] = episode.took_us
        if first.reason:
            fields["reason"] = first.reason
        if skipped:
            fields["not_logged"] = skipped
        tell = self._log.info if episode.action in (Action.APPLIED, Action.HEALED) else self._log.warning
        tell(f"drift {episode.action.value}" if episode.action is not Action.APPLIED else "applied", **fields)

    def _tell_history(self) -> None:
        """The history is opened on its own thread: what it found there is known only later."""
        aside = None if self._history is None else self._history.set_aside
        if aside is not None and not self._history_told:
            self._history_told = self._changed = True
            self._log.error("a damaged store was set aside", file=str(aside))

    # -- publishing ------------------------------------------------------------------------------------------

    def publish_now(self) -> dict[str, Any]:
        """Publish and give the state and its summary, for the answer to a request."""
        self._changed = True
        self.publish()
        status = build_status(self._tuner, self._context())
        return {"state": status.state, "summary": status.summary}

    def publish(self) -> None:
        """Publish what changed. A sweep that changed nothing only tells in the status when it was.

        Every third one tells it in what else says it too, and puts back what somebody deleted.
        """
        self._number += 1
        again = self._sweeps % _AGAIN_EVERY_SWEEPS == 0
        missed, self._missing = self._missing, False
        if missed or (again and self._is_incomplete()):
            self._begin_again()
            self._changed = True
        if self._changed:
            self._publish_whole()
        elif again:
            self._publish_file("tunables", self._tunables.stamp(self._verified_at))
            self._publish_file("counters", encode(self._counters()))
        daemon = encode(self._daemon()).replace("\n", "\n  ")
        self._publish_file("status", f"{self._status_head}{daemon}\n}}")
        if missed and not self._missing:
            self._complained = False
            self._log.info("published again")
        self._due = self._changed = False
        self._published_s = time.monotonic()

    def _is_incomplete(self) -> bool:
        """Whether somebody deleted a document."""
        try:
            return not self._documents <= set(os.listdir(self._places.run_dir))  # noqa: PTH208 - names
        except OSError:  # the directory as well
            return True

    def _begin_again(self) -> None:
        """Not everything of the last publication is on disk; perhaps the directory itself is gone."""
        self._shown_hardware = self._shown_config = self._shown_advice = self._shown_fabric = None
        with suppress(SparktuneError):  # publishing will say why not
            make_directory(self._places.run_dir, 0o755)

    def _publish_whole(self) -> None:
        context = self._context()
        status = build_status(self._tuner, context)
        self.line = f"{status.state}: {status.summary}"
        # `daemon` is the last field, and the one that always changes.
        head, key, _ = encode(status).rpartition('"daemon": ')
        self._status_head = head + key
        self._publish_file("tunables", self._tunables.compose(self._tuner, context.daemon))
        self._publish_file("counters", encode(self._counters()))
        self._publish_file("drift", encode(build_drift(self._tuner, list(self._latest))))
        self._publish_config()
        self._publish_hardware()
        self._publish_fabric()
        self._publish_advice()

    def publish_unsupported(self, why: str) -> None:
        """Publish why this machine is not tuned; from now on every status says so."""
        self._verified_at, self._unsupported = timestamp(), why
        status = build_status(self._tuner, self._context())
        self._publish_hardware()
        self._publish_fabric()
        self._publish_file("tunables", self._tunables.compose(self._tuner, status.daemon))
        self._publish_file("drift", encode(build_drift(self._tuner, ())))
        self._publish_file("counters", encode(self._counters()))
        self._publish_config()
        self._publish_advice()
        self._publish_file("status", encode(status))

    def _publish_config(self) -> None:
        shown = (self._tuner.effective, self._is_on_disk())
        if shown != self._shown_config:
            self._publish_file("config", encode(build_config(shown[0], on_disk=shown[1])))
            self._shown_config = shown

    def _publish_hardware(self) -> None:
        shown = (self._tuner.host, self._conflicts)
        if self._shown_hardware is None or any(map(operator.is_not, shown, self._shown_hardware)):
            self._publish_file("hardware", encode(describe(*shown)))
            self._shown_hardware = shown

    def _publish_fabric(self) -> None:
        shown = build_fabric(self._tuner)
        if shown != self._shown_fabric:
            self._publish_file("fabric", encode(shown))
            self._shown_fabric = shown

    def _publish_advice(self) -> None:
        if self._advice is not self._shown_advice:
            self._publish_file("advice", encode(self._advice))
            self._shown_advice = self._advice

    def _publish_file(self, name: str, text: str) -> None:
        self._documents.add(f"{name}.json")
        try:
            publish(self._places.run_dir, name, text)
        except StoreError as error:
            self._missing = True
            if not self._complained:  # once, not at every sweep and for every document
                self._complained = True
                self._log.error("cannot publish", error=error.message)

    def _is_on_disk(self) -> bool:
        return self._on_disk and not self._tuner.effective.error

    def _context(self) -> Context:
        return Context(
            daemon=self._daemon(),
            drifts=list(self._latest),
            on_disk=self._is_on_disk(),
            warnings=tuple(self._warnings()),
            starting=self._verified_at is None,
            unsupported=self._unsupported,
            advice=self._advice.summary,
        )

    def _warnings(self) -> Iterable[Notice]:
        engine = self._tuner.engine
        history = () if self._history is None else (self._history,)
        for store in (engine.originals, engine.marks, *history):
            if store.set_aside is not None:
                says = f"a damaged store was set aside as {store.set_aside}; what was readable is kept"
                yield Notice(area="", level="warning", says=says, do="look at it, then delete it")
        if self._history is not None and self._history.error:
            says = f"the history cannot be stored: {self._history.error}"
            yield Notice(
                area="", level="warning", says=says, do=f"is there room in {self._places.state_dir}?"
            )
        yield from warn_of_conflicts(self._conflicts)
        if self._watches.events != "fanotify+pid":
            says = f"changes are seen by {self._watches.events}: who made them is not known"
            yield Notice(area="", level="info", says=says, do="run the daemon as root (CAP_SYS_ADMIN)")

    def _daemon(self) -> Daemon:
        return Daemon(
            version=__version__,
            instance=self._instance,
            number=self._number,
            pid=os.getpid(),
            started_at=self._started_at,
            verified_at=self._verified_at,
            verified_monotonic=round(self._verified_s, 6),
            sweep_s=self._tuner.settings.sweep,
            events=self._watches.events,
        )

    def _counters(self) -> Counters:
        buckets, total = [], 0
        for number, bound in enumerate(_BUCKETS_US):
            total += self._heals[number]
            buckets.append((bound, total))
        return Counters(
            drifts={area: dict(counts) for area, counts in self._drifts.items()},
            heal_us_buckets=tuple(buckets),
            heal_us_sum=self._heal_us_sum,
            heals=sum(self._heals.values()),
            overflows=self.overflows,
            history_dropped=0 if self._history is None else self._history.dropped,
            sweeps=self._sweeps,
            sweep_last_us=self._sweep_last_us,
        )


def summarise(episode: Episode) -> DriftSummary:
    """An episode as `/status` and `/drift` show it."""
    first = episode.drifts[0]
    ids = tuple(dict.fromkeys(drift.tunable for drift in episode.drifts))
    return DriftSummary(
        at=timestamp(episode.at),
        area=episode.area,
        tunables=len(ids),
        ids=ids[:_MOST_IDS],
        wanted=first.wanted,
        found=first.found,
        noticed=episode.noticed.value,
        action=episode.action.value,
        reason=next((drift.reason for drift in episode.drifts if drift.reason), ""),
        took_us=episode.took_us,
        by=writer(episode.cause),
    )
