"""Interferes with a simulated machine every few seconds, as other tools on a host do, and says what it did.

A process of its own, so that the daemon can name it. Writes to simulated trees only, and so seldom to any one
tunable that the daemon never calls it contested (contest.after = 5 within 60 s by default).
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.kernel.root import Root
from sparktune.simulate.child import name_process
from sparktune.simulate.tree import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMM = "disturber"
MOST_WRITES = 2
"""Of one tunable in a window. Four would do no harm; the rest is for who tries things beside us."""
WINDOW_S = 61.0
"""One second more than the daemon's window, which does not begin when ours does."""

_BLOCK = "/sys/block"
_CPUS = "/sys/devices/system/cpu"
_NET = "/sys/class/net"
_PORT = "p0"
_TWO = 2
_MTUS = ("1500", "9000")
_RDMA_CM = "/sys/kernel/config/rdma_cm"
_READ_AHEADS_KB = (128, 512, 256, 4096)
_OLD_ROCE_MODE = "IB/RoCE v1"

Inode = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something another tool, a person or a cable might do.

    Attributes:
        says: in words.
        writes: the host's names of the files, and what is written to each.
    """

    says: str
    writes: tuple[tuple[str, str], ...]


class Ration:
    """How often a file may still be written. Counts inodes: another name of a value is the same value."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._writes: dict[Inode, deque[float]] = defaultdict(deque)

    def allows(self, inodes: Iterable[Inode], now_s: float) -> bool:
        """Whether none of them was written too often in the window that ends now."""
        return all(self._count(inode, now_s) < MOST_WRITES for inode in inodes)

    def note(self, inodes: Iterable[Inode], now_s: float) -> None:
        """All of them are written now."""
        for inode in inodes:
            self._writes[inode].append(now_s)

    def _count(self, inode: Inode, now_s: float) -> int:
        writes = self._writes[inode]
        while writes and now_s - writes[0] > WINDOW_S:
            writes.popleft()
        return len(writes)


class Disturber:
    """Disturbs one simulated machine, each time in another way."""

    def __init__(self, root: Root) -> None:
        """Disturb the machine in this tree."""
        self._root = root
        self._turns = itertools.count()
        self._ration = Ration()

    def disturb(self, now_s: float) -> str:
        """Do the next thing that there is something for and that is not too much.

        Returns:
            What was done; empty if nothing could be now.
        """
        for _ in _KINDS:
            round_, kind = divmod(next(self._turns), len(_KINDS))
            disturbance = _KINDS[kind](self._root, round_)
            if disturbance is None:
                continue
            try:
                inodes = [_inode(self._root.path(name)) for name, _ in disturbance.writes]
                if self._ration.allows(inodes, now_s):
                    self._ration.note(inodes, now_s)
                    for name, value in disturbance.writes:
                        _write(self._root.path(name), value)
                    return disturbance.says
            except FileNotFoundError:  # the device left between looking and writing
                continue
        return ""


def disturb_disk(root: Root, round_: int) -> Disturbance | None:
    """Another read-ahead for one disk."""
    disks = _disks(root)
    if not disks:
        return None
    disk = _choose(disks, round_)
    return _read_ahead(root, f"{_BLOCK}/{disk}/queue/read_ahead_kb", round_)


def disturb_idle_states(root: Root, round_: int) -> Disturbance | None:
    """All idle states of one CPU enabled, as `cpupower -c N idle-set -E` does."""
    cpus = [name for name in root.names(_CPUS) if root.exists(f"{_CPUS}/{name}/cpuidle")]
    if not cpus:
        return None
    cpu = _choose(sorted(cpus, key=lambda name: int(name.removeprefix("cpu"))), round_)
    base = f"{_CPUS}/{cpu}/cpuidle"
    writes = tuple((f"{base}/{state}/disable", "0") for state in root.names(base))
    return Disturbance(f"enabled all idle states of {cpu}", writes)


def disturb_alias(root: Root, round_: int) -> Disturbance | None:
    """Another read-ahead for one disk, by the other name of the same value."""
    numbers = [number for disk in _disks(root) if (number := root.read(f"{_BLOCK}/{disk}/dev"))]
    if not numbers:
        return None
    name = f"/sys/class/bdi/{_choose(numbers, round_)}/read_ahead_kb"
    return _read_ahead(root, name, round_ + 2)


def disturb_roce_mode(root: Root, round_: int) -> Disturbance | None:
    """The old RoCE mode for RDMA-CM programs of one device, if the daemon has made its directory."""
    devices = root.names(_RDMA_CM)
    if not devices:
        return None
    name = f"{_RDMA_CM}/{_choose(devices, round_)}/ports/1/default_roce_mode"
    return Disturbance(f"wrote {_OLD_ROCE_MODE!r} to {name}", ((name, _OLD_ROCE_MODE),))


def disturb_mtu(root: Root, round_: int) -> Disturbance | None:
    """Another MTU for one twin of the cabled port alone; the next time, that of its twin again."""
    twins = _twins(root)
    if len(twins) < _TWO:
        return None
    first, second = (root.read(f"{_NET}/{twin}/mtu") for twin in twins)
    value = first if first != second else next(mtu for mtu in _MTUS if mtu != first)
    name = f"{_NET}/{twins[1]}/mtu"
    return Disturbance(f"wrote {value} to {name}", ((name, str(value)),))


def disturb_link(root: Root, round_: int) -> Disturbance | None:
    """No link for one twin of the cabled port; the next time, its link again."""
    twins = _twins(root)
    if len(twins) < _TWO:
        return None
    net = f"{_NET}/{twins[0]}"
    port = f"{net}/device/infiniband/{root.names(f'{net}/device/infiniband')[0]}/ports/1"
    up = root.read(f"{net}/carrier") != "1"
    changes = int(root.read(f"{net}/carrier_changes") or 0) + 1
    writes = (
        (f"{port}/state", "4: ACTIVE" if up else "1: DOWN"),
        (f"{net}/operstate", "up" if up else "down"),
        (f"{net}/carrier", str(int(up))),
        (f"{net}/carrier_changes", str(changes)),
    )
    return Disturbance(f"gave {twins[0]} its link back" if up else f"took the link of {twins[0]}", writes)


_KINDS = (disturb_disk, disturb_idle_states, disturb_alias, disturb_roce_mode, disturb_mtu, disturb_link)


def _twins(root: Root) -> list[str]:
    """The interfaces of the ConnectX-7's first port, those with an RDMA device."""
    return [
        name
        for name in root.names(_NET)
        if root.read(f"{_NET}/{name}/phys_port_name") == _PORT
        and root.names(f"{_NET}/{name}/device/infiniband")
    ]


def _disks(root: Root) -> list[str]:
    """NVMe disks and what stands on them, without the hidden paths of multipath, which are not used."""
    return [
        name
        for name in root.names(_BLOCK)
        if name.startswith(("nvme", "dm-")) and root.read(f"{_BLOCK}/{name}/hidden") != "1"
    ]


def _choose(names: Sequence[str], round_: int) -> str:
    return names[round_ % len(names)]


def _read_ahead(root: Root, name: str, round_: int) -> Disturbance:
    choices = [str(value) for value in _READ_AHEADS_KB if str(value) != root.read(name)]
    value = _choose(choices, round_)
    return Disturbance(f"wrote {value} to {name}", ((name, value),))


def _inode(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def _write(path: Path, value: str) -> None:
    """Write in one call, as to an attribute: a plain file keeps the rest of a longer value, so cover it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, f"{value}\n".encode().ljust(os.fstat(descriptor).st_size, b"\n"))
    finally:
        os.close(descriptor)


def main() -> int:
    """Disturb the machine in the tree given first, each so many seconds as given second, until killed."""
    root, every_s = Root(Path(sys.argv[1])), float(sys.argv[2])
    if not root.path(MARKER).is_file():
        print(f"{COMM}: {root.directory} holds no simulated machine: nothing was written", file=sys.stderr)  # noqa: T201 - a program of its own that says what it does
        return 1
    name_process(COMM)
    disturber = Disturber(root)
    while True:
        time.sleep(every_s)
        try:
            if says := disturber.disturb(time.monotonic()):
                print(f"{COMM} (pid {os.getpid()}): {says}", flush=True)  # noqa: T201 - a program of its own that says what it does
        except OSError as error:  # a full disk, no permission, or nobody reads what we say any more
            print(f"{COMM}: cannot go on: {error.strerror} {error.filename or ''}".rstrip(), file=sys.stderr)  # noqa: T201 - a program of its own that says what it does
            return 1


if __name__ == "__main__":
    sys.exit(main())
