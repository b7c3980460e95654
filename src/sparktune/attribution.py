"""From a pid to a cause: who wrote, as far as it can still be seen. Evidence only, never a guess.

It runs right after a heal, while short-lived writers die: few files, what matters most first, no psutil
(its constructor alone costs more than the first answer here). It never raises and reads no environment.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparktune.kernel.process import (
    Identity,
    Start,
    has_exited,
    open_process,
    pid_of,
    read_arguments,
    read_identity,
    read_loginuid,
    read_program,
    read_start,
    read_unit,
)
from sparktune.model import Cause, CauseKind, Process
from sparktune.redaction import redact
from sparktune.snapshot import Writer

if TYPE_CHECKING:
    from sparktune.kernel.exits import ExitRecords

MOST_COMMAND_CHARACTERS = 512
"""So long is a stored command line at most."""

_MOST_PARENTS = 64
_PARENT_AGE_S = 2.0
_GONE = -1  # FAN_NOPIDFD (fanotify(7)): the writer was reaped before its event was read
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _Parent(NamedTuple):
    start: Start
    seen: float
    process: Process


class Glimpse(NamedTuple):
    """What was seen of a writer at first sight.

    Attributes:
        pid: as the event said.
        pidfd: of the event.
        directory: a descriptor of /proc/PID, None if it was gone already.
        identity: name, state, parent and uid, None if they were gone already.
    """

    pid: int
    pidfd: int | None
    directory: int | None
    identity: Identity | None


class Attributor:
    """Looks up writers and their parents; keeps the latest parents, because a loop in a shell writes often.

    Not for several threads at once.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Look things up in this procfs; set `exits` to know also those that are gone."""
        self._proc = str(proc)
        self.exits: ExitRecords | None = None
        self._parents: dict[int, _Parent] = {}

    def glimpse(self, pid: int, pidfd: int | None = None) -> Glimpse:
        """What vanishes first: who `pid` is, before anything slower is done. To be given to `tell`.

        Args:
            pid: the writer, in this process's namespace, as fanotify reported it.
            pidfd: the event's pidfd, which stays the caller's to close.
        """
        directory = None if pid <= 0 or pidfd == _GONE else open_process(self._proc, pid)
        identity = None if directory is None else read_identity(directory)
        return Glimpse(pid, pidfd, directory, identity)

    def tell(self, glimpse: Glimpse) -> Cause:
        """The whole cause, as far as it can still be seen. Ends the glimpse. Never raises."""
        pid, _, directory, identity = glimpse
        if pid <= 0:
            return Cause(kind=CauseKind.UNKNOWN)
        if directory is None:
            return self._remember_exit(pid)
        try:
            if identity is None or not self._was_writer(glimpse):
                return self._remember_exit(pid)
            process = _read_writer(pid, directory, identity)
        finally:
            os.close(directory)
        parent = None if identity.ppid <= 0 else self._parent(identity.ppid)
        return Cause(kind=CauseKind.PROCESS, process=process, parent=parent)

    def _remember_exit(self, pid: int) -> Cause:
        """What the kernel's exit record still says of a writer that is gone."""
        record = None if self.exits is None else self.exits.find(pid)
        if record is None:
            return Cause(kind=CauseKind.PROCESS, process=Process(pid=pid))
        process = Process(pid=pid, comm=_printable(record.comm), uid=record.uid)
        parent = None if record.ppid <= 0 else self._parent(record.ppid)
        return Cause(kind=CauseKind.PROCESS, process=process, parent=parent)

    def identify(self, pid: int, pidfd: int | None = None) -> Cause:
        """`glimpse` and `tell` at once: the cause of an event by `pid`.

        Kind `process`; what could not be seen any more is None, in the extreme all but the pid. A pid of 0
        (a writer outside this namespace) gives kind `unknown`. With a pidfd, what belongs to a later process
        with the same pid is dropped; FAN_NOPIDFD says that the writer was reaped already.
        """
        return self.tell(self.glimpse(pid, pidfd))

    def _was_writer(self, glimpse: Glimpse) -> bool:
        """Whether the glimpsed directory was the writer's and not that of a later process with its pid.

        Certainly while the writer runs or is a zombie: its pid is not free. After that, its directory must
        have died with it; one that still answers belongs to somebody else.
        """
        pidfd = glimpse.pidfd
        if pidfd is None or pidfd < 0 or glimpse.directory is None:
            return True
        if not has_exited(pidfd):
            return True
        holder = pid_of(self._proc, pidfd)
        if holder > 0:
            return holder == glimpse.pid
        return read_start(glimpse.directory) is None

    def _parent(self, ppid: int) -> Process | None:
        directory = open_process(self._proc, ppid)
        if directory is None:
            return None
        try:
            start = read_start(directory)
            if start is None:
                return None
            now = time.monotonic()
            known = self._parents.pop(ppid, None)
            if known is None or known.start != start or now - known.seen > _PARENT_AGE_S:
                known = _Parent(start, now, _read_parent(ppid, start.comm, directory))
            self._parents[ppid] = known
        finally:
            os.close(directory)
        while len(self._parents) > _MOST_PARENTS:
            del self._parents[next(iter(self._parents))]
        return known.process


def writer(cause: Cause) -> Writer:
    """What everybody may see of a cause: the shape of `/status`, without command lines."""
    process, parent = cause.process, cause.parent
    suspects = tuple(suspect.label for suspect in cause.suspects)
    if process is None:
        return Writer(kind=cause.kind.value, detail=cause.detail, suspects=suspects)
    return Writer(
        kind=cause.kind.value,
        comm=process.comm,
        pid=process.pid,
        exe=process.exe,
        uid=process.uid,
        unit=process.unit,
        parent=None if parent is None else parent.label,
        detail=cause.detail,
        suspects=suspects,
    )


def _read_writer(pid: int, directory: int, identity: Identity | None) -> Process:
    exited = identity is not None and identity.exited
    return Process(
        pid=pid,
        exe=None if exited else _printable(read_program(directory)),
        cmdline=None if exited else _command(directory),
        comm=None if identity is None else _printable(identity.comm),
        uid=None if identity is None else identity.uid,
        unit=_printable(read_unit(directory)),
        loginuid=read_loginuid(directory),
    )


def _read_parent(pid: int, comm: str, directory: int) -> Process:
    identity = read_identity(directory)
    return Process(
        pid=pid,
        comm=_printable(comm),
        exe=_printable(read_program(directory)),
        uid=None if identity is None else identity.uid,
        cmdline=_command(directory),
    )


def _command(directory: int) -> str | None:
    arguments = read_arguments(directory)
    if not arguments:
        return None
    return _UNPRINTABLE.sub("?", redact(arguments))[:MOST_COMMAND_CHARACTERS]


def _printable(text: str | None) -> str | None:
    """Names are chosen by whoever runs the process: no control character of theirs reaches a terminal."""
    return text if text is None or text.isprintable() else _UNPRINTABLE.sub("?", text)
