"""Starts the programs that are measured, waits until they are ready, looks at them, and surely ends them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ground import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ground import Setup

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_LIBC = ctypes.CDLL(None)
_PATIENCE_S = 30.0
_KIB = 1024
_APART = 'mount -t sysfs sysfs /sys && exec "$@"'
_OURS = ("SPARKTUNE_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM", "PYTHON")


@dataclass(frozen=True, slots=True)
class Started:
    """A program that said it is ready.

    Attributes:
        process: the program.
        ready_s: from just before fork and exec until then.
    """

    process: subprocess.Popen[bytes]
    ready_s: float

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@dataclass(frozen=True, slots=True)
class Activity:
    """What all threads of a process have done since they began.

    Attributes:
        wakeups: voluntary context switches: each is one sleep, and so one wake-up.
        cpu_ns: time on a CPU, from schedstat, which counts in ns.
    """

    wakeups: int
    cpu_ns: int


def _die_with_parent() -> None:
    """In the child: even if the bench is killed, nothing is left behind. Source: prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without whatever would configure what is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, **(more or {})}


def capture(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, which is ours at the latest."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd="/",
        preexec_fn=_die_with_parent,
    )


@contextmanager
def running(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the block lasts; stdout and stderr go to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment(environment),
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the bench, which then ends all of them in order
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - the bench has no threads
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
    finally:  # also when interrupted: what it holds can be put back only once it is gone
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def ready(
    command: Sequence[str], *, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Started]:
    """Run a program that speaks sd_notify(3), from `READY=1` to the end of the block.

    Raises:
        BenchError: it ended before it was ready, with the last line it said.
    """
    address = directory / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(address))
        receiver.settimeout(0.05)
        log = directory / "log"
        began_s = time.monotonic()
        notify = {"NOTIFY_SOCKET": str(address), **(environment or {})}
        with running(command, log=log, environment=notify) as process:
            _await_ready(receiver, process, log)
            yield Started(process, time.monotonic() - began_s)


def _await_ready(receiver: socket.socket, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            if b"READY=1" in receiver.recv(4096).split(b"\n"):
                return
        except TimeoutError:  # look whether it still lives
            if process.poll() is not None:
                break
    raise BenchError(f"skipped: `{_name(process)}` did not become ready: {last_line(log)}")


def _name(process: subprocess.Popen[bytes]) -> str:
    words = process.args if isinstance(process.args, list) else [str(process.args)]
    return Path(str(words[0])).name + " … " + str(words[-1])


def last_line(log: Path) -> str:
    """What a program said last, hints left out."""
    lines = log.read_text(errors="replace").strip().splitlines()
    said = [line for line in lines if not line.startswith("hint:")]
    return said[-1][:160] if said else "it said nothing"


@contextmanager
def daemon(setup: Setup, *, apart: bool = False) -> Iterator[Started]:
    """A tuning daemon, ready. Raises BenchError if it does not start: another one may hold this host.

    Args:
        setup: its machine and directories.
        apart: in network and mount namespaces of its own, with a /sys of its own: several daemons can then
            watch the processes of one kernel at the same time. Needs root.
    """
    command = setup.command("daemon")
    if apart:
        command = [
            "unshare",
            "--net",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            _APART,
            "sh",
            *command,
        ]
    with ready(command, directory=setup.config.parent) as started:
        yield started


@contextmanager
def api(setup: Setup) -> Iterator[tuple[Started, int]]:
    """The API over what a daemon of this setup publishes, with its port on 127.0.0.1."""
    port = find_port()
    directory = setup.config.parent / "api"
    directory.mkdir(exist_ok=True)
    with ready(setup.command("api", "--listen", f"127.0.0.1:{port}"), directory=directory) as started:
        yield started, port


def find_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_activity(pid: int) -> Activity:
    """What the process has done so far. Source: Documentation/filesystems/proc.rst, sched-stats.rst."""
    wakeups = cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended between two looks
            status = (task / "status").read_text()
            wakeups += int(status.partition("voluntary_ctxt_switches:")[2].split(maxsplit=1)[0])
            cpu_ns += int((task / "schedstat").read_text().split(maxsplit=1)[0])
    return Activity(wakeups, cpu_ns)


def read_rss_kib(pid: int) -> float:
    """Resident memory of the process in KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _KIB
