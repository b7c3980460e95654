"""The daemon's look at the engines: once a minute, after a sweep, in slices. It advises and changes nothing.

It wakes nobody up by itself: a pass begins with a sweep. Only new processes cost something, and whatever may
block (a memory map of 100 GB, model files on a dead server) is left to a child.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from sparktune.kernel.engines import blind_spot, last_pid, list_pids, look_at
from sparktune.snapshot import AdviceReport, AdviceSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from structlog.typing import FilteringBoundLogger

    from sparktune.advice.answer import Answer
    from sparktune.advice.examination import Suspect
    from sparktune.advice.model import Finding
    from sparktune.kernel.asking import Asking
    from sparktune.kernel.sockets import SocketTables
    from sparktune.tuner import Tuner

EVERY_S = 59.0
"""Between two passes: the first sweep after so long begins one, so it is once a minute."""
SLICE_S = 0.002
"""At most about this long between two looks at the events."""
REST_S = 0.01
GRACE_S = 0.05
"""A pass that is done within this never rests: events are answered between its slices, nothing is woken."""
PYTHON_AGE_S = 600.0
"""A Python program that has loaded no engine ten minutes after its start is none."""
MOST_SUSPECTS = 256
MOST_PYTHONS = 32
"""So many Python programs that may have an engine in them are looked at; a build machine starts thousands."""
MOST_LINES = 20


class Publisher(Protocol):
    """Who takes what was found: the recorder."""

    def publish_advice(self, report: AdviceReport) -> None:
        """Take over what the advisor found."""


class Advisor:
    """Finds engines, examines them, and publishes what the rules say."""

    def __init__(
        self,
        tuner: Tuner,
        recorder: Publisher,
        register: Callable[[int, Callable[[], None]], None],
        forget: Callable[[int], None],
        log: FilteringBoundLogger,
    ) -> None:
        """Nothing is looked at until the first sweep.

        Args:
            tuner: the host and its configuration.
            recorder: publishes.
            register: makes the loop call a handler when a descriptor is readable.
            forget: takes a descriptor that was closed out of the loop.
            log: where findings are told once.
        """
        self._tuner = tuner
        self._recorder = recorder
        self._register, self._forget = register, forget
        self._log = log
        self._root = tuner.host.root
        self._proc = str(self._root.path("/proc"))
        self._known: set[int] = set()
        self._last_pid: int | None = None
        self._suspects: dict[int, Suspect] = {}
        self._steps: Iterator[None] | None = None
        self._next_s = 0.0
        self._began_s = 0.0
        self._due_s: float | None = None
        self._asking: tuple[Suspect, Asking] | None = None
        self._since: dict[tuple[int, int, str], str] = {}
        self._told: set[tuple[int, int, str]] = set()
        self._broken: set[str] = set()

    @property
    def suspects(self) -> tuple[Suspect, ...]:
        """The processes that are, or may be, engines."""
        return tuple(self._suspects.values())

    def swept(self) -> None:
        """A sweep ended: begin a pass if one is due."""
        now_s = time.monotonic()
        if self._steps is None and now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            self._steps, self._due_s = self._pass(), now_s
            self._began_s = now_s

    def configure(self) -> None:
        """The configuration changed: a pass with the next sweep."""
        self._next_s = 0.0
        if not self._tuner.settings.advice.enabled:
            self.swept()

    def due_s(self) -> float | None:
        """When `turn` has something to do next, on CLOCK_MONOTONIC."""
        dues = [self._due_s, self._asking[1].until_s if self._asking else None]
        return min((due for due in dues if due is not None), default=None)

    def turn(self) -> None:
        """Do the next slice if it is due."""
        began_s = time.monotonic()
        if self._asking is not None and began_s >= self._asking[1].until_s:
            self._answered({"error": "no answer in time: does a file server not answer?"})
        if self._due_s is None or began_s < self._due_s:
            return
        while self._steps is not None:
            if next(self._steps, self) is self:
                self._steps = self._due_s = None
            elif time.monotonic() - began_s >= SLICE_S:
                now_s = time.monotonic()
                self._due_s = now_s + (REST_S if now_s - self._began_s > GRACE_S else 0.0)
                return

    def close(self) -> None:
        """End the child, if there is one."""
        if self._asking is not None:
            self._forget(self._asking[1].registered)
            self._asking[1].close()
            self._asking = None

    # -- a pass ----------------------------------------------------------------------------------------------

    def _pass(self) -> Iterator[None]:
        """Look for new engines, and again at those that are known; one process between two `yield`s."""
        if not self._tuner.settings.advice.enabled:
            self._drop_all()
            return
        for pid in self._new_pids():
            self._meet(pid)
            yield
        from sparktune.kernel.sockets import SocketTables

        tables = SocketTables()
        for pid, one in list(self._suspects.items()):
            if not self._look_at(one, tables):
                del self._suspects[pid]
            yield
        self._count_queue_pairs()
        yield
        if self._root.is_real:
            self._ask_next()
        yield
        self._judge()

    def _new_pids(self) -> list[int]:
        """Processes that were not met yet. A pid that was given out since may be another one."""
        last, before = last_pid(self._root), self._last_pid
        if last is not None and last == before:
            return []
        pids = list_pids(self._root)
        self._last_pid = last
        reused: set[int] = set()
        if before is not None and last is not None:
            if before < last:
                reused = {pid for pid in pids if before < pid <= last}
            else:  # the counter began anew
                reused = {pid for pid in pids if pid > before or pid <= last}
        new = (pids - self._known) | reused
        self._known = pids
        new.discard(os.getpid())
        return sorted(new)

    def _meet(self, pid: int) -> None:
        known = self._suspects.get(pid)
        sketch = look_at(self._root, pid)
        if sketch is None or (known is not None and known.sketch.start_ticks == sketch.start_ticks):
            return
        from sparktune.advice.recognition import name_of

        name = name_of(sketch.program, sketch.arguments)
        self._suspects.pop(pid, None)
        if name is None or not self._has_room(named=name.kind is not None):
            return
        from sparktune.advice.examination import suspect

        self._suspects[pid] = suspect(sketch, name)

    def _has_room(self, *, named: bool) -> bool:
        if named:
            return len(self._suspects) < MOST_SUSPECTS
        pythons = sum(one.name.kind is None and one.engine is None for one in self._suspects.values())
        return pythons < MOST_PYTHONS

    def _look_at(self, one: Suspect, tables: SocketTables) -> bool:
        """Whether it is still worth looking at."""
        from sparktune.advice.examination import look_again, started_s
        from sparktune.advice.surroundings import read_uptime_s

        if not look_again(one, self._proc, self._read_ahead_since, tables):
            return False
        age_s = read_uptime_s(self._root) - started_s(one.sketch)
        return one.engine is not None or one.name.kind is not None or age_s < PYTHON_AGE_S

    def _count_queue_pairs(self) -> None:
        if any(one.engine is not None for one in self._suspects.values()):
            from sparktune.advice.queue_pairs import count_queue_pairs

            count_queue_pairs(self._root, self._suspects.values())

    def _read_ahead_since(self, device: str) -> float | None:
        from sparktune.advice.surroundings import read_ahead_since

        return read_ahead_since(self._tuner, device)

    def _drop_all(self) -> None:
        self.close()
        self._suspects.clear()
        self._known.clear()
        self._last_pid = None
        self._told.clear()
        summary = AdviceSummary(
            enabled=False, engines=0, findings=0, warnings=0, says="switched off by advice.enabled"
        )
        self._recorder.publish_advice(
            AdviceReport(looked_at=None, summary=summary, findings=(), engines=(), ignored=(), unseen="")
        )

    # -- children --------------------------------------------------------------------------------------------

    def _ask_next(self) -> None:
        """Start a child for an engine that changed since it was asked about; one at a time."""
        if self._asking is not None:
            return
        from sparktune.kernel.asking import Asking

        for one in self._suspects.values():
            if one.engine is None or one.asked == one.seen:
                continue
            one.asked = one.seen
            try:
                asking = Asking(one.request)
            except (OSError, ValueError) as error:
                self._take(one, {"error": str(error)})
                continue
            self._asking = (one, asking)
            self._register(asking.fileno(), self._on_answer)
            return

    def _on_answer(self) -> None:
        if self._asking is not None and (found := self._asking[1].read()) is not None:
            self._answered(found)

    def _answered(self, found: dict[str, Any]) -> None:
        if self._asking is None:
            return
        one, asking = self._asking
        self._forget(asking.registered)
        asking.close()
        self._asking = None
        if self._suspects.get(one.sketch.pid) is one:
            self._take(one, found)
        self._ask_next()
        if self._asking is None:
            self._judge()

    def _take(self, one: Suspect, found: dict[str, Any]) -> None:
        from sparktune.advice.answer import read_answer
        from sparktune.advice.examination import take_answer

        answer: Answer = read_answer(found)
        take_answer(one, answer, self._read_ahead_since)

    # -- judging ---------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Let the rules look at every engine, and publish."""
        engines = [one for one in self._suspects.values() if one.engine is not None]
        findings: list[tuple[Suspect, Finding]] = []
        if engines:
            from sparktune.advice.judging import judge

            findings = judge(self._tuner, engines, self._tell_broken)
        from sparktune.advice.report import build_report, key_of

        keys = {key_of(one, finding) for one, finding in findings}
        self._since = {key: since for key, since in self._since.items() if key in keys}
        ignored, unseen = self._tuner.settings.advice.ignore, blind_spot(self._root)
        report = build_report(engines, findings, self._since, ignored=ignored, unseen=unseen)
        self._tell(findings, key_of)
        self._recorder.publish_advice(report)

    def _tell_broken(self, rule: str, error: Exception) -> None:
        if rule not in self._broken:
            self._broken.add(rule)
            self._log.error("a rule is broken", rule=rule, error=f"{type(error).__name__}: {error}")

    def _tell(
        self,
        findings: list[tuple[Suspect, Finding]],
        key_of: Callable[[Suspect, Finding], tuple[int, int, str]],
    ) -> None:
        """One line for each finding that was not told yet."""
        new = [(one, finding) for one, finding in findings if key_of(one, finding) not in self._told]
        for _, finding in new[:MOST_LINES]:
            self._log.info(
                "advice", rule=finding.rule, engine=finding.engine, pid=finding.pid, what=finding.what
            )
        self._told = {key_of(one, finding) for one, finding in findings}
