"""Which processes there are, and what each calls itself: the first look of the advisor.

Made for machines with thousands of processes: nothing is read of a process that was looked at before.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sparktune.kernel.process import open_process, read_program, read_start

if TYPE_CHECKING:
    from sparktune.kernel.root import Root

MOST_ARGUMENT_BYTES = 65536
"""So much of a command line is read; what is longer is cut."""

_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_LAST_FIELD = 4  # load, load, load, running/all, last pid
_CONTAINER = re.compile(rb"(?:^|[/:_-])([0-9a-f]{64})(?:\.scope|[/\n:]|$)", re.MULTILINE)
_SHOWN_DIGITS = 12
_HIDDEN = "Is /proc mounted with hidepid, and CAP_SYS_PTRACE missing?"


class Sketch(NamedTuple):
    """What is to be seen of a process at first sight.

    Attributes:
        pid: process id.
        start_ticks: start time in clock ticks since boot: tells two processes with the same pid apart.
        program: the path of its program; empty if it cannot be read.
        arguments: its command line, cut. Holds secrets.
    """

    pid: int
    start_ticks: int
    program: str
    arguments: tuple[str, ...]


def last_pid(root: Root) -> int | None:
    """The pid that was given out last (proc_loadavg(5)); unchanged: nothing was started. None: not known."""
    fields = (root.read("/proc/loadavg") or "").split()
    return int(fields[_LAST_FIELD]) if len(fields) > _LAST_FIELD and fields[_LAST_FIELD].isdigit() else None


def list_pids(root: Root) -> set[int]:
    """All processes that are to be seen. One readdir: about 1 µs a process."""
    try:
        names = os.listdir(root.path("/proc"))  # noqa: PTH208 - names, and ten thousand of them
    except OSError:  # no procfs at all
        return set()
    return {int(name) for name in names if name.isdecimal()}


def blind_spot(root: Root) -> str:
    """Which processes are not to be seen here, for people; empty: none that we know of.

    Everybody may see pid 1, unless procfs was mounted with hidepid (proc(5)); for whom it holds is the
    kernel's business: CAP_SYS_PTRACE lifts it.
    """
    if not root.exists("/proc"):
        return "all processes: there is no /proc"
    if not root.is_real:
        return ""
    try:
        os.close(os.open("/proc/1/stat", _READ_ONLY))
    except OSError as error:  # ENOENT with hidepid=2, EPERM with hidepid=1
        return f"processes of other users: /proc/1: {error.strerror}. {_HIDDEN}"
    return ""


def look_at(root: Root, pid: int) -> Sketch | None:
    """What a process calls itself; None if it is gone, a kernel thread, or not to be seen."""
    process = open_process(str(root.path("/proc")), pid)
    if process is None:
        return None
    try:
        command = read_file(process, "cmdline", most=MOST_ARGUMENT_BYTES)
        start = read_start(process) if command else None
        if not command or start is None:
            return None
        text = command.decode(errors="replace")
        # A title that was written over the line is filled up with NULs (setproctitle): no empty arguments.
        arguments = tuple(text.rstrip("\0").split("\0"))
        return Sketch(pid, start.starttime, read_program(process) or "", arguments)
    finally:
        os.close(process)


def read_container(process: int) -> str:
    """The id of its container, the first 12 digits, from its cgroup (proc_pid_cgroup(5)); empty on the host.

    Docker, podman, containerd and CRI-O name a container's cgroup by its id of 64 hex digits.
    """
    match = _CONTAINER.search(read_file(process, "cgroup", most=65536) or b"")
    return match[1][:_SHOWN_DIGITS].decode() if match else ""


def read_file(process: int, name: str, *, most: int) -> bytes | None:
    """The first `most` bytes of a file of a process; None: gone, or not ours to see. procfs gives pages."""
    try:
        descriptor = os.open(name, _READ_ONLY, dir_fd=process)
    except OSError:  # ENOENT, ESRCH: it is gone; EACCES: not ours to see
        return None
    data = bytearray()
    try:
        while len(data) < most and (piece := os.read(descriptor, min(most - len(data), 65536))):
            data += piece
    except OSError:  # ESRCH: gone meanwhile
        return None
    finally:
        os.close(descriptor)
    return bytes(data)


def read_links(process: int, name: str, *, most: int) -> tuple[str, ...] | None:
    """Where the links in a directory of a process lead to (`fd`); None: gone, or not ours to see."""
    try:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    except OSError:  # as above
        return None
    found: list[str] = []
    try:
        for entry in os.listdir(directory)[:most]:  # noqa: PTH208 - a descriptor, not a path
            with suppress(OSError):  # closed in between
                found.append(os.readlink(entry, dir_fd=directory))
    except OSError:  # it ended
        return None
    finally:
        os.close(directory)
    return tuple(found)
