"""Logging: readable on a terminal, one line with its priority under journald, JSON on request."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from sparktune.standins import Later, standing_in

with standing_in(rich=None, asyncio=Later("asyncio")):
    # rich: for tracebacks nobody is shown, 4 MiB, 50 ms. asyncio, and with it ssl: for awaited loggers.
    import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

LogFormat = Literal["auto", "console", "journal", "json"]

# sd-daemon(3): the priorities of syslog(3), written in front of a line.
_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def get_logger() -> Any:
    """The logger of the program."""
    return structlog.get_logger()


def configure(log_format: LogFormat) -> None:
    """Set up structlog; `auto` looks whether journald reads us (JOURNAL_STREAM) or a person."""
    if log_format == "auto":
        log_format = "journal" if os.environ.get("JOURNAL_STREAM") else "console"
    processors: list[Any] = [structlog.processors.add_log_level]
    if log_format == "journal":
        processors += [_for_journald]
    else:
        processors += [structlog.processors.TimeStamper(fmt="iso", utc=log_format == "json")]
        processors += [_last(log_format)]
    structlog.configure(
        processors=processors,
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )


class _Stderr:
    """Writes lines to stderr for as long as somebody reads them: a log must never end the daemon."""

    def msg(self, line: str) -> None:
        """Write a line."""
        try:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except BrokenPipeError:  # the reader is gone for good, and what is still buffered would fail again
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)
        except OSError:  # a full disk: later lines may fit
            pass

    debug = info = warning = error = critical = msg


def _last(log_format: LogFormat) -> Any:
    if log_format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _for_journald(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """`<6>message key=value …`: journald takes the priority off and adds the time itself."""
    priority = _PRIORITIES.get(event.pop("level", "info"), 6)
    message = event.pop("event", "")
    rest = " ".join(
        f"{key}={value!r}" if " " in str(value) else f"{key}={value}" for key, value in event.items()
    )
    line = f"{message} {rest}".rstrip().replace("\n", " | ")
    return f"<{priority}>{line}"


class DriftLog:
    """At most ten lines a minute about drift; the rest is counted and told with the next line that may be."""

    MOST = 10
    WINDOW_S = 60.0

    def __init__(self) -> None:
        """Start with a full allowance."""
        self._told_s: deque[float] = deque(maxlen=self.MOST)
        self._skipped = 0

    def allow(self, now_s: float) -> int | None:
        """None if nothing may be logged now; else how many were not since the last line."""
        if len(self._told_s) == self.MOST and now_s - self._told_s[0] < self.WINDOW_S:
            self._skipped += 1
            return None
        self._told_s.append(now_s)
        skipped, self._skipped = self._skipped, 0
        return skipped
