"""Reads single facts about one process from /proc, each through the descriptor of its directory.

The descriptor pins the process: once it is reaped, everything read through it fails, so a recycled pid can
never be mistaken for it. Nothing is judged here, nothing raises, and no environment is ever read.
"""

from __future__ import annotations

import os
import re
import select
from typing import NamedTuple

MOST_COMMAND_BYTES = 4096
"""So much of a command line is read; what is longer is cut."""

_MOST_BYTES = 4096
_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_UNSET_LOGINUID = 4294967295
_UNIT = re.compile(r"[^/]+\.(?:service|scope|mount|socket|swap|timer|automount|path|target)(?![^/])")
_DELETED = " (deleted)"


class Identity(NamedTuple):
    """What /proc/PID/status says at once: the facts that outlive the memory of an exiting process.

    Attributes:
        comm: the kernel's name for it, undecodable bytes replaced.
        exited: it is a zombie: it has no command line and no program any more.
        ppid: its parent; 0 for pid 1 and for parents in another namespace.
        uid: real uid.
    """

    comm: str
    exited: bool
    ppid: int
    uid: int


class Start(NamedTuple):
    """What tells two processes with the same pid apart: /proc/PID/stat.

    Attributes:
        comm: the kernel's name for it.
        starttime: in clock ticks since boot.
    """

    comm: str
    starttime: int


def open_process(proc: str, pid: int) -> int | None:
    """A descriptor of /proc/PID for the other functions of this module, to be closed by the caller.

    None when there is no such process (or no descriptor to be had).
    """
    try:
        return os.open(f"{proc}/{pid}", _DIRECTORY)
    except OSError:  # ENOENT: reaped; EMFILE and the like: unknown is an answer
        return None


def read_identity(process: int) -> Identity | None:
    """Name, state, parent and real uid, in one read (proc_pid_status(5)); None when it is gone."""
    data = _read(process, "status")
    if data is None:
        return None
    try:
        # A newline in a name is escaped there, so no name can forge one of these lines.
        return Identity(
            comm=_unescape(_field(data, b"Name:\t")),
            exited=_field(data, b"\nState:\t")[:1] in (b"Z", b"X"),
            ppid=int(_field(data, b"\nPPid:\t")),
            uid=int(_field(data, b"\nUid:\t").split(b"\t", 1)[0]),
        )
    except ValueError:  # not what a kernel writes: as good as nothing
        return None


def read_start(process: int) -> Start | None:
    """Name and start time (proc_pid_stat(5)); the name may itself hold blanks and parentheses."""
    data = _read(process, "stat")
    if data is None:
        return None
    opening, closing = data.find(b"("), data.rfind(b")")
    try:
        return Start(_decode(data[opening + 1 : closing]), int(data[closing + 2 :].split(b" ", 20)[19]))
    except (ValueError, IndexError):  # not what a kernel writes
        return None


def read_program(process: int) -> str | None:
    """The path of its program, without the mark for deleted files; None for zombies and kernel threads."""
    try:
        return os.readlink("exe", dir_fd=process).removesuffix(_DELETED)
    except OSError:  # ENOENT: no memory any more, or a kernel thread; EACCES: not ours to see
        return None


def read_arguments(process: int) -> tuple[str, ...]:
    """Its command line, the first 4,096 bytes; empty for zombies. Holds secrets: redact."""
    data = _read(process, "cmdline", MOST_COMMAND_BYTES)
    return tuple(_decode(data).rstrip("\0").split("\0")) if data and data.strip(b"\0") else ()


def read_loginuid(process: int) -> int | None:
    """The audit login uid; None when it is unset or the kernel keeps none."""
    data = _read(process, "loginuid")
    try:
        loginuid = _UNSET_LOGINUID if data is None else int(data)
    except ValueError:  # not what a kernel writes
        return None
    return None if loginuid == _UNSET_LOGINUID else loginuid


def read_unit(process: int) -> str | None:
    """Its unit as systemctl spells it, from cgroup 2 or else the named v1 hierarchy; None: it has none."""
    data = _read(process, "cgroup")
    if data is None:
        return None
    named = None
    for line in data.decode(errors="replace").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers and (unit := unit_of(path)):
            return unit
        if controllers == "name=systemd":
            named = unit_of(path)
    return named


def unit_of(path: str) -> str | None:
    """The unit a cgroup path belongs to: its deepest element that names one. Slices hold no processes."""
    units = _UNIT.findall(path.removesuffix(_DELETED))
    # systemd puts "_" before names that would collide with the kernel's own files (cg_escape).
    return str(units[-1]).removeprefix("_") if units else None


def has_exited(pidfd: int) -> bool:
    """Whether the process of a pidfd has exited, reaped or not (pidfd_open(2): it becomes readable)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        return bool(poll.poll(0))
    except OSError:  # ENOMEM: nothing can be vouched for
        return True


def pid_of(proc: str, pidfd: int) -> int:
    """The pid of a pidfd while nobody else can have it; -1 once reaped (`Pid:` in fdinfo, pidfd_open(2))."""
    try:
        descriptor = os.open(f"{proc}/self/fdinfo/{pidfd}", _READ_ONLY)
    except OSError:  # not a descriptor of ours
        return -1
    try:
        return int(_field(os.read(descriptor, _MOST_BYTES), b"\nPid:\t"))
    except (OSError, ValueError):  # not a pidfd
        return -1
    finally:
        os.close(descriptor)


def _read(process: int, name: str, size: int = _MOST_BYTES) -> bytes | None:
    try:
        descriptor = os.open(name, _READ_ONLY, dir_fd=process)
    except OSError:  # ENOENT, ESRCH: it is gone; EACCES: not ours to see
        return None
    try:
        return os.read(descriptor, size)
    except OSError:  # ESRCH: gone between open and read
        return None
    finally:
        os.close(descriptor)


def _field(data: bytes, label: bytes) -> bytes:
    start = data.index(label) + len(label)
    end = data.find(b"\n", start)
    return data[start:] if end < 0 else data[start:end]


def _unescape(comm: bytes) -> str:
    if b"\\" not in comm:
        return _decode(comm)
    return _decode(b"\\".join(part.replace(b"\\n", b"\n") for part in comm.split(b"\\\\")))


def _decode(data: bytes) -> str:
    return data.decode(errors="replace")
