"""The tuning daemon: applies, verifies, publishes, and from then on answers every change at once.

One thread, one epoll, no framework: between a write of somebody else and the answer lies one wake-up.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sparktune import garbage, hardware, logs, settings
from sparktune.advice.advisor import Advisor
from sparktune.conflicts.watch import ConflictWatch
from sparktune.control import MOST_CLIENTS, SOCKET_NAME, ControlServer
from sparktune.errors import ConfigurationError, SparktuneError
from sparktune.history import History
from sparktune.keeper import Keeper
from sparktune.kernel.lock import HostLock
from sparktune.model import Cause, CauseKind, Noticed, Policy
from sparktune.places import make_directory
from sparktune.recorder import Recorder
from sparktune.requests import Requests
from sparktune.supervision import Supervisor
from sparktune.triggers import Triggers
from sparktune.tuner import Tuner
from sparktune.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from sparktune.places import Places

EXIT_UNSUPPORTED = 5
_MOST_READY = 32


class Daemon:
    """One daemon for one host, from start to SIGTERM."""

    def __init__(self, places: Places) -> None:
        """Take the host's lock and make the directories.

        Raises:
            AlreadyRunningError: another daemon has the host.
            SparktuneError: a directory cannot be made.
        """
        self.places = places
        self.log = logs.get_logger()
        self._lock = HostLock(places.root)
        make_directory(places.run_dir, 0o755)
        make_directory(places.state_dir, 0o750)
        self.host = hardware.detect(places.root)
        self.tuner = Tuner(self.host, self._load(), state_dir=places.state_dir, repair=True)
        self.engine = self.tuner.engine
        self.supervisor = Supervisor()
        watches = Watches(self.log)
        self.recorder = Recorder(self.tuner, places, watches, self.log)
        self.keeper = Keeper(self.tuner, self.recorder, watches, self.supervisor, self.log)
        self.conflicts = ConflictWatch(self.tuner, self.recorder, self.log)
        self.advisor = Advisor(self.tuner, self.recorder, self._register, self._forget, self.log)
        self.triggers = Triggers(self.keeper, self._register, self.log)
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._control: ControlServer | None = None
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._signals: list[int] = []
        self._exit_code: int | None = None

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. Returns the exit code: 0, or 5 on an unsupported machine."""
        _allow_many_descriptors()
        _run_promptly()
        self._catch_signals()
        try:
            if not self._is_supported():
                self._publish_unsupported()
                return EXIT_UNSUPPORTED
            self.start()
            while self._exit_code is None:
                self._turn()
            return self._exit_code
        finally:
            self.stop()

    # -- start and stop --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Apply and verify first; everything that is slow comes after, READY at the end."""
        self._remember_configuration()
        self.triggers.open_writes()
        self.keeper.apply_all(Noticed.START, Cause(kind=CauseKind.UNKNOWN, detail="the value found at start"))
        history = self.tuner.settings.history
        self.recorder.start(History(self.places.history, days=history.days, rows=history.rows))
        if self.places.root.is_real:
            self.triggers.open_others()
        self._listen()
        self.recorder.publish()
        self._tell_start()
        self.supervisor.ready(self.recorder.line)
        self.keeper.discovered = self.conflicts.begin_later
        self.conflicts.begin()
        self.triggers.pinging.begin()
        garbage.settle()

    def _tell_start(self) -> None:
        for store in (self.engine.originals, self.engine.marks):
            if store.set_aside is not None:
                self.log.error("a damaged store was set aside", file=str(store.set_aside))
        if self.tuner.effective.error:
            self.log.error("the configuration is invalid", error=self.tuner.effective.error)
        if self.tuner.switched_off:
            self.log.warning("switched off by sparktune=off on the kernel command line")
        self.log.info("started", state=self.recorder.line, events=self.keeper.watches.events)

    def stop(self) -> None:
        """Leave the tuned values as they are; store what is still open."""
        self.supervisor.stopping()
        self.triggers.parrying.keep_books()
        self.advisor.close()
        self.recorder.stop()
        if self._control is not None:
            self._control.close()
        self.triggers.close()
        for held in self.engine.held.values():
            held.tunable.attribute.close()
        self.engine.finish()
        signal.set_wakeup_fd(-1)
        for opened in (self._wake_receiver, self._wake_sender, self._epoll, self._lock):
            opened.close()

    def _is_supported(self) -> bool:
        """Whether this machine may be tuned under this configuration."""
        return self.host.verdict == "gb10" or not self.tuner.settings.require_gb10

    def _publish_unsupported(self) -> None:
        against = [f"{item.what}: {item.found}" for item in self.host.evidence if item.speaks != "for"]
        why = f"this is no GB10 machine ({'; '.join(against)}); nothing is changed"
        hint = "to tune it all the same set require_gb10 = false in /etc/sparktune.toml"
        self.recorder.publish_unsupported(f"{why}; {hint}")
        self.log.warning("unsupported machine", reason=why, hint=hint)
        self.supervisor.ready(f"unsupported: {why}")

    def _catch_signals(self) -> None:
        self._wake_receiver.settimeout(0)
        self._wake_sender.settimeout(0)
        signal.set_wakeup_fd(self._wake_sender.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda caught, _: self._signals.append(caught))
        self._register(self._wake_receiver.fileno(), self._answer_signals)

    # -- the loop --------------------------------------------------------------------------------------------

    def _register(self, descriptor: int, handler: Callable[[], None], events: int = select.EPOLLIN) -> None:
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def _forget(self, descriptor: int) -> None:
        """Drop the handler of a descriptor that is closed next, which takes it out of the epoll as well."""
        self._handlers.pop(descriptor, None)

    def _turn(self) -> None:
        """Wait for the next event or the next due time, and deal with both."""
        ready = self._epoll.poll(max(0.0, self._due_s() - time.monotonic()), _MOST_READY)
        self.triggers.woke_s = time.monotonic()
        for descriptor, _ in ready:
            handler = self._handlers.get(descriptor)
            if handler is not None:
                handler()
        parrying = self.triggers.parrying
        books_s = parrying.due_s()
        if books_s is not None and time.monotonic() >= books_s:
            parrying.keep_books()
        self.triggers.settling.turn()
        self.triggers.links.turn()
        self.triggers.pinging.turn()
        if time.monotonic() >= self.keeper.next_sweep_s:
            parrying.catch_up()
            parrying.forget()  # before the sweep: who writes during it and ends has its exit record still
            self.keeper.sweep(Noticed.SWEEP, Cause(kind=CauseKind.UNKNOWN))
            self.advisor.swept()
            self.triggers.pinging.begin(())
        if self.engine.marks.drop_ended():
            self.keeper.look_again(Cause(kind=CauseKind.UNKNOWN, detail="found when a pause ended"))
            self.recorder.touch()
        if self._control is not None:
            self._control.drop_slow()
        self.conflicts.turn()
        self.advisor.turn()
        if self.recorder.turn():
            self.supervisor.status(self.recorder.line)
            self._listen_again()

    def _due_s(self) -> float:
        pause_s = self.engine.marks.next_end_s()
        dues = (
            self.keeper.next_sweep_s,
            self.triggers.parrying.due_s(),
            self.triggers.settling.due_s(),
            self.triggers.links.due_s(),
            self.triggers.pinging.due_s(),
            self.recorder.due_s(),
            self.conflicts.due_s(),
            self.advisor.due_s(),
            None if self._control is None else self._control.due_s(),
            None if pause_s is None else time.monotonic() + pause_s,
        )
        return min(due for due in dues if due is not None)

    def _answer_signals(self) -> None:
        with suppress(BlockingIOError):  # another signal's byte was read with the last one
            self._wake_receiver.recv(64)
        signals, self._signals = self._signals, []
        if signal.SIGHUP in signals:
            with suppress(ConfigurationError):  # logged, and in the status
                self.reload()
        if signal.SIGTERM in signals or signal.SIGINT in signals:
            self.log.info("stopping; the tuned values stay")
            self._exit_code = 0

    # -- configuration ---------------------------------------------------------------------------------------

    def _host_names(self) -> tuple[str, ...]:
        return settings.host_names() if self.places.root.is_real else (self.host.name,)

    def _load(self) -> settings.Effective:
        return settings.load_or_fall_back(
            self.places.config,
            host_names=self._host_names(),
            environ=os.environ,
            last_good=self.places.last_good,
        )

    def _remember_configuration(self) -> None:
        if self.tuner.effective.error:
            return
        try:
            settings.remember(self.places.last_good, self.tuner.effective)
        except SparktuneError as error:
            self.log.error("cannot keep the last good configuration", error=error.message)

    def reload(self) -> int:
        """Read the configuration again and act on what changed; a bad one changes nothing but the status.

        Returns:
            How many values were written.

        Raises:
            ConfigurationError: the files are invalid; the running configuration goes on.
        """
        self.supervisor.reloading()
        try:
            effective = settings.load(self.places.config, host_names=self._host_names(), environ=os.environ)
        except ConfigurationError as error:
            self.tuner.effective = replace(self.tuner.effective, error=str(error.problems[0]))
            self.log.error("reload refused, the running configuration goes on", error=error.message)
            self.recorder.touch()
            self.supervisor.ready(self.recorder.line)
            raise
        self.tuner.reconfigure(effective)
        self._remember_configuration()
        if not self._is_supported():
            self._give_up()
            return 0
        cause = Cause(kind=CauseKind.UNKNOWN, detail="configuration reloaded")
        written = self.keeper.apply_all(Noticed.RELOAD, cause)
        self.recorder.configure()
        self.log.info("reloaded", sha256=effective.sha256[:12], written=written)
        self.supervisor.ready(self.recorder.line)
        self.conflicts.begin()
        self.triggers.pinging.begin(at_once=True)
        self.advisor.configure()
        return written

    def _give_up(self) -> None:
        """The new configuration wants a GB10 and this is none: put everything back and end."""
        for held in self.engine.held.values():
            held.policy = Policy.OFF
        self.keeper.tell(self.tuner.release())
        self._publish_unsupported()
        self._exit_code = EXIT_UNSUPPORTED

    # -- control socket --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        control = self._control = ControlServer(self.places.run_dir, Requests(self).answer)
        self._register(control.fileno(), partial(self._accept, control), select.EPOLLIN | select.EPOLLET)

    def _listen_again(self) -> None:
        """Somebody may have deleted the run directory: a socket that nobody finds is none."""
        if os.path.exists(f"{self.places.run_dir}/{SOCKET_NAME}"):  # noqa: PTH110 - text, with every sweep
            return
        if self._control is not None:
            self._control.close()
            self._control = None
        with suppress(SparktuneError):  # publishing has said what is wrong there; tried again with the next
            self._listen()

    def _accept(self, control: ControlServer) -> None:
        # More than ever wait. Told once each time one comes: out of descriptors, nothing spins.
        for _ in range(2 * MOST_CLIENTS):
            descriptor = control.accept()
            if descriptor is not None:
                self._register(descriptor, partial(self._serve, control, descriptor))
        for peer in control.refused:
            self.log.warning("control request refused: not root", uid=peer.uid, pid=peer.pid)
        control.refused.clear()

    def _serve(self, control: ControlServer, descriptor: int) -> None:
        if control.serve(descriptor):
            self._epoll.modify(descriptor, select.EPOLLOUT)
        elif not control.knows(descriptor):
            del self._handlers[descriptor]  # closing took it out of the epoll as well


def _allow_many_descriptors() -> None:
    """Each attribute keeps one or two descriptors open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # the soft limit must do then; what cannot be opened says so
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run_promptly() -> None:
    """Be woken at once also where every CPU decodes tokens; some hundred µs of work are no load to anybody.

    The lowest real-time priority, not passed on to the history thread (sched(7)). The unit sets it before it
    forbids to; without it the daemon is only slower.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    sys.setswitchinterval(0.0001)  # the history's thread must not hold up a heal for 5 ms
