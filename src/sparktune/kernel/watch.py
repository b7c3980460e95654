"""Sees writes to attribute files: fanotify with the writer's pid, or inotify without it.

Events are triggers: they say that somebody wrote and who, never what the value is or whether it is right.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Inode = tuple[int, int]
"""(st_dev, st_ino): an event's path is wrong across mount namespaces, its inode is right."""

_LIBC = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/fanotify.h
_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_UNLIMITED_MARKS, _FAN_REPORT_PIDFD = 0x1, 0x2, 0x20, 0x80
_FAN_MODIFY, _FAN_Q_OVERFLOW = 0x2, 0x4000
_FAN_MARK_ADD, _FAN_MARK_REMOVE = 0x1, 0x2
_AT_FDCWD = -100
_METADATA = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_PIDFD_RECORD = struct.Struct("=BBHi")  # struct fanotify_event_info_pidfd
_FAN_EVENT_INFO_TYPE_PIDFD = 4

# include/uapi/linux/inotify.h
_IN_MODIFY, _IN_IGNORED, _IN_Q_OVERFLOW = 0x2, 0x8000, 0x4000
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_INOTIFY = struct.Struct("=iIII")  # struct inotify_event, then `len` bytes of name

_BUFFER_BYTES = 4096
"""Some hundred events; a larger buffer costs an allocation at every wake-up, and what is left comes next."""


@dataclass(slots=True)
class WriteEvent:
    """Somebody wrote to a watched file.

    Attributes:
        inode: the file; None for an overflow: anything may have been written.
        pid: the writer's thread group; 0 if the kernel did not say.
        pidfd: keeps the pid from being reused while it is looked at; negative if the writer is gone
            already; None where the kernel has no pidfds.
    """

    inode: Inode | None
    pid: int = 0
    pidfd: int | None = None
    _descriptor: int = field(default=-1, repr=False)

    def close(self) -> None:
        """Release the event's descriptors. Must be called once the event is dealt with."""
        for descriptor in (self._descriptor, self.pidfd):
            if descriptor is not None and descriptor >= 0:
                with suppress(OSError):  # nothing to save on a descriptor we only looked at
                    os.close(descriptor)
        self._descriptor, self.pidfd = -1, None


class Watch(Protocol):
    """What fanotify and inotify have in common."""

    name: str
    """`fanotify+pid` or `inotify`."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def add(self, path: Path) -> Inode:
        """Watch a file. Raises OSError."""

    def remove(self, path: Path, inode: Inode) -> None:
        """Stop watching; a file that is gone already is no error."""

    def read(self) -> Iterable[WriteEvent]:
        """The events that have queued up, without our own writes where their pid is known; to be closed."""

    def close(self) -> None:
        """Stop watching everything."""


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _inode(path: Path) -> Inode:
    status = os.stat(path)  # noqa: PTH116 - one call, no object in between
    return status.st_dev, status.st_ino


class FanotifyWatch:
    """fanotify on inodes, source: fanotify(7). Needs CAP_SYS_ADMIN."""

    name = "fanotify+pid"

    def __init__(self) -> None:
        """Open a notification group, with pidfds where the kernel has them (5.15). Raises OSError."""
        flags = _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_UNLIMITED_MARKS
        mode = os.O_RDONLY | os.O_CLOEXEC
        descriptor = _LIBC.fanotify_init(flags | _FAN_REPORT_PIDFD, mode)
        if descriptor < 0 and ctypes.get_errno() == errno.EINVAL:
            descriptor = _LIBC.fanotify_init(flags, mode)
        self._descriptor = _check(descriptor, "fanotify_init")
        self._pid = os.getpid()

    def fileno(self) -> int:
        """The group's descriptor."""
        return self._descriptor

    def add(self, path: Path) -> Inode:
        """Mark the file's inode. Raises OSError."""
        inode = _inode(path)
        self._mark(_FAN_MARK_ADD, path)
        return inode

    def remove(self, path: Path, inode: Inode) -> None:
        """Unmark it, unless another file has taken its place."""
        with suppress(OSError):  # the mark went with the inode
            if _inode(path) == inode:
                self._mark(_FAN_MARK_REMOVE, path)

    def _mark(self, action: int, path: Path) -> None:
        mask = ctypes.c_uint64(_FAN_MODIFY)
        result = _LIBC.fanotify_mark(self._descriptor, action, mask, _AT_FDCWD, os.fsencode(path))
        _check(result, f"fanotify_mark {path}")

    def read(self) -> Iterator[WriteEvent]:
        """Everything that has queued up, one system call."""
        try:
            data = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:  # somebody else's wake-up
            return
        except OSError:  # an event's file could not be opened for us (ENODEV: its device left; EMFILE)
            yield WriteEvent(None)  # the kernel has dropped that event: anything may have been written
            return
        offset = 0
        while offset < len(data):
            length, _, _, start, mask, descriptor, pid = _METADATA.unpack_from(data, offset)
            if mask & _FAN_Q_OVERFLOW:
                yield WriteEvent(None)
            elif pid == self._pid:
                _close_own(data, offset + start, offset + length, descriptor)
            else:
                status = os.fstat(descriptor)
                pidfd = _find_pidfd(data, offset + start, offset + length)
                yield WriteEvent((status.st_dev, status.st_ino), pid, pidfd, descriptor)
            offset += length

    def close(self) -> None:
        """Close the group; its marks go with it."""
        os.close(self._descriptor)


def _close_own(data: bytes, offset: int, end: int, descriptor: int) -> None:
    """Our own write: nothing to look at."""
    WriteEvent(None, pidfd=_find_pidfd(data, offset, end), _descriptor=descriptor).close()


def _find_pidfd(data: bytes, offset: int, end: int) -> int | None:
    while offset + _PIDFD_RECORD.size <= end:
        kind, _, length, pidfd = _PIDFD_RECORD.unpack_from(data, offset)
        if kind == _FAN_EVENT_INFO_TYPE_PIDFD:
            return int(pidfd)  # negative: FAN_NOPIDFD, the writer was reaped already; FAN_EPIDFD
        offset += max(length, _PIDFD_RECORD.size)
    return None


class InotifyWatch:
    """inotify, for those without CAP_SYS_ADMIN: sees that somebody wrote, not who. Source: inotify(7)."""

    name = "inotify"

    def __init__(self) -> None:
        """Open an inotify instance. Raises OSError."""
        self._descriptor = _check(_LIBC.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK), "inotify_init1")
        self._inodes: dict[int, Inode] = {}

    def fileno(self) -> int:
        """The instance's descriptor."""
        return self._descriptor

    def add(self, path: Path) -> Inode:
        """Watch the file's inode. Raises OSError."""
        inode = _inode(path)
        number = _LIBC.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_MODIFY)
        self._inodes[_check(number, f"inotify_add_watch {path}")] = inode
        return inode

    def remove(self, path: Path, inode: Inode) -> None:
        """Stop watching the inode."""
        for number, watched in list(self._inodes.items()):
            if watched == inode:
                _LIBC.inotify_rm_watch(self._descriptor, number)
                del self._inodes[number]

    def read(self) -> Iterator[WriteEvent]:
        """Everything that has queued up, one system call."""
        try:
            data = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:  # somebody else's wake-up
            return
        offset = 0
        while offset < len(data):
            number, mask, _, length = _INOTIFY.unpack_from(data, offset)
            offset += _INOTIFY.size + length
            if mask & _IN_Q_OVERFLOW:
                yield WriteEvent(None)
            elif mask & _IN_IGNORED:
                self._inodes.pop(number, None)
            elif (inode := self._inodes.get(number)) is not None:
                yield WriteEvent(inode)

    def close(self) -> None:
        """Close the instance; its watches go with it."""
        os.close(self._descriptor)


def open_watch() -> Watch | None:
    """The best watch this process may have; None where even inotify is refused (then the sweep sees all)."""
    try:
        return FanotifyWatch()
    except OSError:  # no CAP_SYS_ADMIN, or a kernel without fanotify: the next best
        pass
    try:
        return InotifyWatch()
    except OSError:  # out of instances: sweeps still find every change, and the snapshot says so
        return None
