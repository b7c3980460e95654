"""Runs a simulated machine: builds its tree, starts daemon and API as children, watches them, ends them.

Touches nothing but the tree. Signals are data here, looked at between steps, so that none of them can
interrupt the clearing up.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.api.sockets import bind_sockets
from sparktune.errors import AlreadyRunningError, DaemonNotRunningError, SparktuneError
from sparktune.frozen import frozen
from sparktune.kernel.lock import HostLock
from sparktune.kernel.root import Root
from sparktune.published import fetch
from sparktune.simulate import tree
from sparktune.simulate.processes import Child, Signals
from sparktune.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER_WITHIN_S = 120.0
GRACE_S = 5.0
_LOOK_EVERY_S = 0.02
_EXIT_UNSUPPORTED = 5
_HIGHEST_PORT = 65535


@frozen
class Simulation:
    """What to run.

    Attributes:
        variant: one of `tree.VARIANTS`.
        scenario: one of `scenarios.SCENARIOS`, instead of a variant; empty for none.
        directory: where the tree is built, and stays; None for a temporary folder, which goes at the end.
        port: the API's; 0 for any free one.
        disturb_every_s: seconds between disturbances; None for none.
        options: options of `sparktune` for daemon and API, such as `--config FILE`.
        run_dir: where the daemon publishes by those options; None for the tree's own place.
    """

    variant: str = "gb10"
    scenario: str = ""
    directory: Path | None = None
    port: int = 9300
    disturb_every_s: float | None = None
    options: tuple[str, ...] = ()
    run_dir: Path | None = None


@frozen
class Running:
    """What runs, once it answers.

    Attributes:
        directory: the tree.
        port: the API's.
        events: how the daemon sees changes: `fanotify+pid`, `inotify`, `sweep only`.
        supported: whether the daemon tunes this machine.
    """

    directory: Path
    port: int
    events: str
    supported: bool


def run(simulation: Simulation, *, say: Callable[[str], None], tell: Callable[[Running], None]) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; then end the children and return 0.

    Args:
        simulation: what to run.
        say: takes progress, a line at a time.
        tell: is called once everything answers.

    Raises:
        UsageError: there is no such variant, scenario or port.
        SparktuneError: the port or the tree is in use, the tree cannot be built, or a child ended.
    """
    port = _find_port(simulation.port)
    with Signals() as signals, _directory(simulation) as directory:
        say(f"building a simulated machine in {directory}: {_about(simulation)}")
        tree.build(directory, simulation.variant, scenario=simulation.scenario)
        crew = _Crew(simulation, directory, port, signals=signals, say=say)
        try:
            if running := crew.start():
                tell(running)
                crew.watch()
        finally:
            crew.stop()
    return 0


class _Crew:
    """The children of one simulation, from the first to the last."""

    def __init__(
        self,
        simulation: Simulation,
        directory: Path,
        port: int,
        *,
        signals: Signals,
        say: Callable[[str], None],
    ) -> None:
        self._simulation = simulation
        self._directory = directory
        self._port = port
        self._signals = signals
        self._say = say
        self._children: list[Child] = []
        self._events = ""
        self._supported = True

    def start(self) -> Running | None:
        """Start daemon, API and disturber; wait until they answer. None when asked to end meanwhile.

        Raises:
            SparktuneError: one of them ended, or does not answer.
        """
        began_s = time.monotonic()
        simulation, root = self._simulation, str(self._directory)
        command = ("sparktune.cli.main", "--root", root, *simulation.options)
        self._say("starting the daemon …")
        daemon = self._start("daemon", *command, "daemon")
        if not self._await(daemon, lambda: self._has_published(daemon)):
            return None
        self._say(f"starting the API on localhost:{self._port} …")
        api = self._start("API", *command, "api", "--listen", f"localhost:{self._port}")
        if not self._await(api, self._api_answers):
            return None
        if simulation.disturb_every_s is not None and self._supported:
            self._start("disturber", "sparktune.simulate.disturb", root, str(simulation.disturb_every_s))
        if flapping := SCENARIOS[simulation.scenario].flapping if simulation.scenario else "":
            self._start("flapper", "sparktune.simulate.flap", root, flapping)
        self._say(f"both answer after {time.monotonic() - began_s:.1f} s")
        return Running(
            directory=self._directory, port=self._port, events=self._events, supported=self._supported
        )

    def watch(self) -> None:
        """Wait until somebody asks for the end.

        Raises:
            SparktuneError: a child ended before.
        """
        while not self._signals.asked:
            self._check_all()
            self._signals.wait(None)

    def stop(self) -> None:
        """End what runs: SIGTERM, and SIGKILL after 5 s or when asked once more."""
        asked = max(self._signals.asked, 1)
        running = [child for child in reversed(self._children) if child.exit_code is None]
        for child in running:
            child.terminate()
        deadline_s = time.monotonic() + GRACE_S
        while any(child.exit_code is None for child in running):
            if time.monotonic() > deadline_s or self._signals.asked > asked:
                break
            self._signals.wait(0.1)
        for child in running:
            if child.exit_code is None:
                child.kill()
                self._say(f"the {child.name} (pid {child.pid}) did not end when asked and was killed")

    def _start(self, name: str, *arguments: str) -> Child:
        child = Child(name, *arguments)
        self._children.append(child)
        return child

    def _await(self, child: Child, answers: Callable[[], bool]) -> bool:
        deadline_s = time.monotonic() + ANSWER_WITHIN_S
        while not self._signals.asked:
            self._check_all()
            if answers():
                return True
            if time.monotonic() > deadline_s:
                raise SparktuneError(
                    f"the {child.name} does not answer after {ANSWER_WITHIN_S:.0f} s",
                    hint="what it said stands above",
                )
            self._signals.wait(_LOOK_EVERY_S)
        return False

    def _check_all(self) -> None:
        """Raise SparktuneError if a child ended, unless because this machine is not to be tuned."""
        for child in list(self._children):
            if child.exit_code == _EXIT_UNSUPPORTED and child.name == "daemon":
                self._supported = False
                self._children.remove(child)
                self._say("the daemon left, as it does on machines it is not made for (exit code 5)")
            elif child.exit_code is not None:
                raise SparktuneError(child.describe_end(), hint="what it said stands above, if it could")

    def _has_published(self, daemon: Child) -> bool:
        """Whether this daemon, and not the one of an earlier run, has applied and verified."""
        run_dir = self._simulation.run_dir or self._directory / "run/sparktune"
        try:
            status = fetch(run_dir, "status").data
        except DaemonNotRunningError:  # not yet
            return False
        who, state = status.get("daemon", {}), status.get("state")
        self._events = who.get("events", "")
        if who.get("pid") != daemon.pid or state == "starting":
            return False
        return state != "unsupported" or not self._supported  # said first, then left: wait for both

    def _api_answers(self) -> bool:
        connection = http.client.HTTPConnection("localhost", self._port, timeout=5.0)
        try:
            connection.request("HEAD", "/status")
            connection.getresponse()
        except (OSError, http.client.HTTPException):  # nobody listens yet
            return False
        finally:
            connection.close()
        return True


def _about(simulation: Simulation) -> str:
    if simulation.scenario:
        return SCENARIOS[simulation.scenario].about
    return tree.VARIANTS.get(simulation.variant, "")


def _find_port(port: int) -> int:
    """The port, if it can be had; a free one for 0."""
    try:
        sockets = bind_sockets("localhost", port)
    except SparktuneError as error:
        other = port + 1 if port < _HIGHEST_PORT else 9300
        hint = f"choose another one: --port {other} (or: make run PORT={other})"
        raise type(error)(error.message, hint=hint) from error
    port = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    return port


@contextlib.contextmanager
def _directory(simulation: Simulation) -> Iterator[Path]:
    """Where to build: the given directory if no daemon tunes it, or a temporary one, removed at the end."""
    if simulation.directory is not None:
        refuse_if_tuned(simulation.directory)
        yield simulation.directory
        return
    try:
        directory = Path(tempfile.mkdtemp(prefix=f"sparktune-{simulation.scenario or simulation.variant}-"))
    except OSError as error:
        raise SparktuneError(
            f"cannot make a temporary folder: {error.strerror}", hint="say where to build: --directory DIR"
        ) from error
    try:
        directory.chmod(0o755)  # what reads, reads as any user; state and socket have modes of their own
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # what stays behind harms nobody


def refuse_if_tuned(directory: Path) -> None:
    """Never build anew below a running daemon. Raises AlreadyRunningError."""
    if not (directory / "sys").is_dir():
        return
    try:
        HostLock(Root(directory)).close()
    except AlreadyRunningError as error:
        raise AlreadyRunningError(
            f"a daemon already tunes the simulated machine in {directory}: nothing was written",
            hint="end that one first, or choose another --directory",
        ) from error
