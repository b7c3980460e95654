"""Who exited lately: the kernel's own exit records, for writers that are gone before anybody could look.

The kernel queues a record for every process that ends; nothing wakes up for it. It is read only when a writer
could not be found, and emptied at each sweep. Source: Documentation/accounting/taskstats.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_GENERIC = 16
_SO_RCVBUFFORCE = 33
_QUEUE_BYTES = 4 << 20
_BUFFER_BYTES = 65536

# include/uapi/linux/genetlink.h, include/uapi/linux/taskstats.h
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_REGISTER_CPUMASK = 1, 3
_TASKSTATS_TYPE_STATS, _TASKSTATS_TYPE_AGGR_PID = 3, 4
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 1, 4, 2

_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_COMMAND = struct.Struct("=BBH")  # struct genlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_STATS = struct.Struct("=80x32s8xIIII")  # struct taskstats: ac_comm, ac_uid, ac_gid, ac_pid, ac_ppid


@frozen(kw_only=False)
class ExitRecord:
    """What the kernel noted of a process that ended.

    Attributes:
        pid: its process id.
        ppid: its parent's.
        uid: its real uid.
        comm: the kernel's name for it.
    """

    pid: int
    ppid: int
    uid: int
    comm: str


class ExitRecords:
    """Listens to the exits on all CPUs. Needs CAP_NET_ADMIN and CONFIG_TASKSTATS."""

    def __init__(self) -> None:
        """Register for all CPUs. Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_GENERIC)
        self._records: dict[int, ExitRecord] = {}
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
            self._socket.bind((0, 0))
            self._socket.settimeout(1.0)
            family = self._find_family()
            mask = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()
            self._ask(family, _TASKSTATS_CMD_GET, _TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, f"{mask}\0".encode())
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0)

    def find(self, pid: int) -> ExitRecord | None:
        """The record of a process that ended since the last `forget`; None if there is none."""
        self._drain()
        return self._records.get(pid)

    def forget(self) -> None:
        """Empty the queue: what ended long ago is nobody's business, and its pid may be another's soon."""
        while self._receive():
            pass
        self._records.clear()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _drain(self) -> None:
        while data := self._receive():
            for record in records_in(data):
                self._records[record.pid] = record

    def _receive(self) -> bytes:
        """The next datagram; empty if none waits."""
        try:
            return self._socket.recv(_BUFFER_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return b""
            return (
                self._receive()
            )  # some were lost; the error is told once, those in the queue are still there

    def _find_family(self) -> int:
        answer = self._ask(_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"TASKSTATS\0")
        for kind, value in attributes(answer[_MESSAGE.size + _COMMAND.size :]):
            if kind == _CTRL_ATTR_FAMILY_ID:
                return int.from_bytes(value, sys.byteorder)
        raise OSError(errno.ENOENT, "this kernel has no taskstats")

    def _ask(self, family: int, command: int, attribute: int, value: bytes) -> bytes:
        padded = value.ljust(_align(len(value)), b"\0")
        body = (
            _COMMAND.pack(command, 1, 0) + _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + padded
        )
        flags = _NLM_F_REQUEST | _NLM_F_ACK
        self._socket.send(_MESSAGE.pack(_MESSAGE.size + len(body), family, flags, 1, 0) + body)
        answer = self._socket.recv(_BUFFER_BYTES)
        if answer and _MESSAGE.unpack_from(answer)[1] == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, _MESSAGE.size)[0]
            if code:
                raise OSError(code, os.strerror(code), "taskstats")
        return answer


def _align(length: int) -> int:
    return (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each netlink attribute; damaged ones end the list."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _align(length)


def records_in(data: bytes) -> Iterator[ExitRecord]:
    """The exit records in one datagram."""
    offset = 0
    while offset + _MESSAGE.size <= len(data):
        length, kind, _, _, _ = _MESSAGE.unpack_from(data, offset)
        if length < _MESSAGE.size:
            return
        if kind > _GENL_ID_CTRL:
            yield from _records_of(data[offset + _MESSAGE.size + _COMMAND.size : offset + length])
        offset += _align(length)


def _records_of(message: bytes) -> Iterator[ExitRecord]:
    for kind, nested in attributes(message):
        if kind != _TASKSTATS_TYPE_AGGR_PID:
            continue
        for inner, stats in attributes(nested):
            if inner == _TASKSTATS_TYPE_STATS and len(stats) >= _STATS.size:
                comm, uid, _, pid, ppid = _STATS.unpack_from(stats)
                yield ExitRecord(pid, ppid, uid, comm.partition(b"\0")[0].decode(errors="replace"))
