"""The processes of a simulation as the one that started them sees them, and the signals it gets itself.

Knows nothing of trees or of what the children do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sparktune.errors import SparktuneError

if TYPE_CHECKING:
    from types import FrameType

_OF_A_SERVICE = {
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
    "LISTEN_PID",
    "LISTEN_FDS",
}
"""Variables by which the children would believe that systemd had started them."""


_LIBRARIES = Path(__file__).parents[2]
"""Where this package lies. As a Debian package that is a folder which only /usr/bin/sparktune knows of."""


def _interpreter() -> list[str]:
    """This interpreter, as isolated from what else is installed as it is itself."""
    given = {"-S": sys.flags.no_site, "-B": sys.dont_write_bytecode}
    return [sys.executable, "-P", *(flag for flag, is_set in given.items() if is_set)]


class Signals:
    """The signals that ask for the end, and SIGCHLD, as something to wait for."""

    def __init__(self) -> None:
        """Nobody asked yet."""
        self.asked = 0
        self._receiver, self._sender = socket.socketpair()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals over; only the hang-up stays ignored if our caller wants that (nohup)."""
        for end in (self._receiver, self._sender):
            end.settimeout(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._receiver.close()
        self._sender.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked += number != signal.SIGCHLD

    def wait(self, timeout_s: float | None) -> None:
        """Until a signal comes, or so long."""
        select.select([self._receiver], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):  # the time is up
            self._receiver.recv(64)


class Child:
    """One process of the simulation. It ends when we do, however we end: see `child.py`."""

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        """Start it with this interpreter, in a process group of its own: Ctrl-C is for us alone.

        Raises:
            SparktuneError: it cannot be started.
        """
        self.name = name
        program = [*_interpreter(), "-m", "sparktune.simulate.child", str(os.getpid()), module]
        kept = {key: value for key, value in os.environ.items() if key not in _OF_A_SERVICE}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
                [*program, *arguments],
                stdin=subprocess.DEVNULL,
                env=kept | {"PYTHONPATH": str(_LIBRARIES)},
                process_group=0,
            )
        except OSError as error:
            raise SparktuneError(f"cannot start the {name}: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that killed it."""
        return self._process.poll()

    def describe_end(self) -> str:
        """Which child ended, and how."""
        code = self.exit_code or 0
        if code < 0:
            return f"the {self.name} (pid {self.pid}) was killed by {signal.Signals(-code).name}"
        return f"the {self.name} (pid {self.pid}) ended with exit code {code}"

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
