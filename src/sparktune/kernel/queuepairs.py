"""Whether anything moves data over an RDMA device now: its queue pairs, from RDMA netlink. Only reads.

Every mlx5 device has queue pairs of its own that carry no traffic of anybody: ib_core's GSI one for
    connection management, and mlx5_ib's for memory registration. They are told by their kernel owner and are
    not counted. The kernel remembers which *thread* made a queue pair (core/restrack.c,
    rdma_restrack_set_name: `current`) and tells its number where others tell a pid. Sources:
    include/uapi/rdma/rdma_netlink.h, drivers/infiniband/core/nldev.c (fill_res_qp_entry,
    fill_res_name_pid), core/mad.c, hw/mlx5/umr.c; rdma-resource(8).
"""

from __future__ import annotations

import errno
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.kernel.attribute import describe_error
from sparktune.kernel.netlink import RDMA, Netlink, attribute, attributes, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sparktune.kernel.root import Root

_CLIENT = 5 << 10  # RDMA_NL_NLDEV; RDMA_NL_GET_TYPE(client, op)
_DEVICES, _QUEUE_PAIRS = _CLIENT + 1, _CLIENT + 10  # RDMA_NLDEV_CMD_GET, _RES_QP_GET
_INDEX, _NAME, _TABLE, _ENTRY = 1, 2, 19, 20  # RDMA_NLDEV_ATTR_DEV_INDEX, _DEV_NAME, _RES_QP, _RES_QP_ENTRY
_LOCAL_NUMBER, _TYPE, _PID, _KERNEL_NAME = 21, 26, 28, 29  # RDMA_NLDEV_ATTR_RES_LQPN, _TYPE, _PID, _KERN_NAME
_MANAGEMENT = frozenset({0, 1})  # IB_QPT_SMI, IB_QPT_GSI: queue pairs 0 and 1
_DRIVERS = frozenset({"ib_core", "mlx5_ib", "mlx5_core"})

_CLASS = "/sys/class/infiniband"
_GROUP = re.compile(r"^Tgid:\s*(\d{1,10})$", re.MULTILINE)
_ASKED_AGAIN_S = 60.0


@frozen(kw_only=False)
class QueuePair:
    """A queue pair that may carry somebody's data.

    Attributes:
        thread: the thread that made it, by its number in our pid namespace; None: a kernel module's, or the
            thread has ended.
        name: the kernel module's, in a tree the process's; empty: not told.
        number: its number on this device.
    """

    thread: int | None
    name: str
    number: int


@frozen(kw_only=False)
class Holders:
    """Which processes hold queue pairs, over all RDMA devices.

    Attributes:
        of: how many each process has, by its pid.
        orphans: how many there are of threads that have ended: their process may live.
    """

    of: dict[int, int]
    orphans: int = 0


def find_holders(root: Root, netlink: Netlink | None = None) -> Holders | None:
    """Who holds queue pairs now; None: there is no RDMA device here.

    The kernel asks the firmware about each queue pair (nldev.c, fill_res_qp_entry_query), so this is for
    once a minute.

    Raises:
        OSError: as the kernel gave it.
    """
    devices = root.names(_CLASS)
    if not devices:
        return None
    pairs = [pair for device in devices for pair in QueuePairs(root, device, netlink).find()]
    threads = Counter(pair.thread for pair in pairs if pair.thread is not None)
    of: Counter[int] = Counter()
    for thread, count in threads.items():
        of[process_of(root, thread)] += count
    orphans = sum(pair.thread is None and not pair.name for pair in pairs)
    return Holders(dict(of), orphans)


def process_of(root: Root, thread: int) -> int:
    """The process that a thread belongs to (proc_pid_status(5), Tgid); its own number where none is told."""
    found = _GROUP.search(root.read(f"/proc/{thread}/status") or "")
    return int(found[1]) if found else thread


class QueuePairs:
    """The queue pairs of one RDMA device, asked for when a write would disturb them.

    While there are some, the answer stands for a minute: to list them the kernel asks the firmware about
        each, and what waits for them can wait that long. That there are none is asked anew each time.
    """

    def __init__(
        self,
        root: Root,
        device: str,
        netlink: Netlink | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet."""
        self._root = root
        self._device = device
        self._netlink = netlink or Netlink(RDMA)
        self._clock = clock
        self._told: tuple[float, str] | None = None

    def running(self) -> str:
        """What would be disturbed: `queue pairs of ib_write_bw[812] on rocep1s0f0`; empty if there are none.

        What cannot be told is treated as running, and said so.
        """
        now_s = self._clock()
        if self._told is not None and now_s - self._told[0] < _ASKED_AGAIN_S:
            return self._told[1]
        said = self._describe()
        self._told = (now_s, said) if said else None
        return said

    def owners(self) -> frozenset[str]:
        """Who holds queue pairs on it now: `python3[812]`. Raises OSError as the kernel gave it."""
        return frozenset(self._owner(pair) for pair in self.find())

    def _describe(self) -> str:
        if not self._root.exists(f"{_CLASS}/{self._device}"):
            return ""
        try:
            first = next(iter(self.find()), None)
        except OSError as error:
            why = describe_error(error, "ask for queue pairs")
            return (
                f"whether there are queue pairs on {self._device} cannot be told ({why}): taken for existing"
            )
        return "" if first is None else f"queue pairs of {self._owner(first)} on {self._device}"

    def _owner(self, pair: QueuePair) -> str:
        """`ib_write_bw[812]`; the kernel module's name; `a process that ended`."""
        if pair.thread is None:
            return pair.name or "a process that ended"
        process = process_of(self._root, pair.thread)
        return f"{pair.name or self._root.read(f'/proc/{process}/comm') or '?'}[{process}]"

    def find(self) -> Iterator[QueuePair]:
        """The queue pairs on it that may carry somebody's data. Raises OSError as the kernel gave it."""
        return self._listed() if self._root.is_real else self._in_tree()

    def _in_tree(self) -> Iterator[QueuePair]:
        """A tree's `netlink/qps`: `pid comm number` a line; no file means none. Raises OSError (EBADMSG)."""
        text = self._root.read(f"{_CLASS}/{self._device}/netlink/qps") or ""
        for line in text.splitlines():
            pid, _, rest = line.strip().partition(" ")
            comm, _, queue = rest.rpartition(" ")
            yield QueuePair(number_in(pid), comm, number_in(queue))

    def _listed(self) -> Iterator[QueuePair]:
        index = self._index()
        if index is None:
            return
        body = attribute(_INDEX, index.to_bytes(4, sys.byteorder))
        for answer in self._netlink.dump(_QUEUE_PAIRS, body):
            for kind, table in attributes(answer):
                for inner, entry in attributes(table) if kind == _TABLE else ():
                    found = self._judge(dict(attributes(entry))) if inner == _ENTRY else None
                    if found is not None:
                        yield found

    def _index(self) -> int | None:
        """The number RDMA netlink knows the device by; None if it left. Raises OSError."""
        for answer in self._netlink.dump(_DEVICES, b""):
            found = dict(attributes(answer))
            if found.get(_NAME, b"").rstrip(b"\0").decode(errors="replace") == self._device:
                return number(found.get(_INDEX), size=4)
        return None

    def _judge(self, entry: dict[int, bytes]) -> QueuePair | None:
        """The queue pair of an entry if it counts. Raises OSError (EBADMSG) for a damaged one."""
        queue = number(entry.get(_LOCAL_NUMBER), size=4)
        kernel = entry.get(_KERNEL_NAME, b"").rstrip(b"\0").decode(errors="replace")
        if kernel:
            kind = entry.get(_TYPE, b"\xff")[:1]
            return None if kernel in _DRIVERS or kind[0] in _MANAGEMENT else QueuePair(None, kernel, queue)
        # Without a pid its thread is dead: its queue pairs may still be in use.
        thread = number(entry[_PID], size=4) if _PID in entry else None
        return QueuePair(thread, "", queue)


class PortTraffic:
    """The queue pairs of all functions that lead to one port: for what a write changes for all of them."""

    def __init__(self, all_of: Sequence[QueuePairs]) -> None:
        """Ask nothing yet."""
        self._all_of = tuple(all_of)

    def running(self) -> str:
        """What the first of them says that has any; empty if none has."""
        return next((said for one in self._all_of if (said := one.running())), "")


def number_in(text: str) -> int:
    """A decimal number of a tree's file. Raises OSError (EBADMSG)."""
    if not text.isdecimal() or len(text) > 10:  # noqa: PLR2004 - 32 bits have ten digits
        raise OSError(errno.EBADMSG, f"no queue pair: {text[:40]!r}")
    return int(text)
