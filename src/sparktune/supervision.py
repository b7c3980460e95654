"""What systemd is told: readiness, the status line, the watchdog. Silent where no systemd listens."""

from __future__ import annotations

import os
import time

import sdnotify

_FEEDS_AFTER = 0.45
"""Of the watchdog's interval: a sweep and a wake-up later it must not be more than half."""


class Supervisor:
    """The service manager's side of the daemon. Source: sd_notify(3), sd_watchdog_enabled(3)."""

    def __init__(self) -> None:
        """Look at the environment once."""
        self._listens = bool(os.environ.get("NOTIFY_SOCKET"))
        self._notifier = sdnotify.SystemdNotifier() if self._listens else None
        self._line = ""
        self.feed_every_s = _FEEDS_AFTER * _watchdog_s() if self._listens else 0.0

    def ready(self, line: str) -> None:
        """Applied and verified once."""
        self._line = line
        self._tell(f"READY=1\nSTATUS={line}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def status(self, line: str) -> None:
        """Tell the status line if it is another one."""
        if line != self._line:
            self._line = line
            self._tell(f"STATUS={line}")

    def feed(self) -> None:
        """Everything was verified just now."""
        if self.feed_every_s:
            self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if self._notifier is not None:  # the library sends Latin-1 and drops the rest; systemd wants UTF-8
            self._notifier.notify(message.encode("ascii", "replace").decode())


def _watchdog_s() -> float:
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    interval = os.environ.get("WATCHDOG_USEC", "")
    return int(interval) / 1e6 if interval.isdecimal() else 0.0
