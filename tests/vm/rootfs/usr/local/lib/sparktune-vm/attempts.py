"""Runs inside the guest, in the API's sandbox and outside of it: tries what the API must not be able to do.

Prints for each attempt `done` or the name of the error. Nothing is changed: files are only opened, what was
made is removed, what was connected is closed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RUN, STATE = "/run/sparktune", "/var/lib/sparktune"
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
LIBC = ctypes.CDLL(None, use_errno=True)


def open_for(mode: int, path: str) -> None:
    """Open and close."""
    os.close(os.open(path, mode | os.O_CLOEXEC))


def make_beside(directory: str) -> None:
    """Make a file and remove it."""
    path = f"{directory}/made-by-an-attempt"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)  # noqa: PTH108


def connect(family: int, address: object, kind: int = socket.SOCK_STREAM) -> None:
    """Connect and hang up."""
    with socket.socket(family, kind) as peer:
        peer.settimeout(5)
        peer.connect(address)  # type: ignore[arg-type]


def call(result: int) -> None:
    """Raise what a system call said."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def in_a_child(action: Callable[[], None]) -> None:
    """What would change this process is done by a child."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno or errno.EIO)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(abs(code), "")


def daemon_pid() -> int:
    """As everybody may read it."""
    document = json.loads(Path(RUN, "status.json").read_text())
    return int(document["daemon"]["pid"])


NEEDED: dict[str, Callable[[], object]] = {
    "read the published status": lambda: open_for(os.O_RDONLY, f"{RUN}/status.json"),
    "read the history": lambda: open_for(os.O_RDONLY, f"{STATE}/history.db"),
}
FORBIDDEN: dict[str, Callable[[], object]] = {
    "write a tuned attribute": lambda: open_for(os.O_WRONLY, "/sys/block/nvme0n1/queue/read_ahead_kb"),
    "look into /sys/block": lambda: next(Path("/sys/block/nvme0n1").iterdir()),
    "write a sysctl": lambda: open_for(os.O_WRONLY, "/proc/sys/vm/swappiness"),
    "write the status": lambda: open_for(os.O_WRONLY, f"{RUN}/status.json"),
    "make a file beside the status": lambda: make_beside(RUN),
    "write the history": lambda: open_for(os.O_RDWR, f"{STATE}/history.db"),
    "make a file beside the history": lambda: make_beside(STATE),
    "read the originals": lambda: open_for(os.O_RDONLY, f"{STATE}/originals.jsonl"),
    "reach the control socket": lambda: connect(socket.AF_UNIX, f"{RUN}/control.sock"),
    "make a file in /etc": lambda: make_beside("/etc"),
    "make a file in the program": lambda: make_beside("/usr/lib/sparktune"),
    "connect by IPv4": lambda: connect(socket.AF_INET, ("127.0.0.1", 9300)),
    "connect by IPv6": lambda: connect(socket.AF_INET6, ("::1", 9300)),
    "send to the network": lambda: connect(socket.AF_INET, ("10.0.2.2", 53), socket.SOCK_DGRAM),
    "open a raw packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "see the NIC": lambda: os.stat("/proc/self/net/dev_snmp6/enp1s0f0np0"),  # noqa: PTH116
    "see other processes": lambda: next(Path("/proc/1").iterdir()),
    "signal the daemon": lambda: os.kill(daemon_pid(), 0),
    "open the disk": lambda: open_for(os.O_RDONLY, "/dev/nvme0n1"),
    "open the kernel's log": lambda: open_for(os.O_RDONLY, "/dev/kmsg"),
    "become root": lambda: in_a_child(lambda: os.setresuid(0, 0, 0)),
    "make a mount namespace": lambda: in_a_child(lambda: call(LIBC.unshare(CLONE_NEWNS))),
    "make a user namespace": lambda: in_a_child(lambda: call(LIBC.unshare(CLONE_NEWUSER))),
    "take real-time priority": lambda: in_a_child(
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    ),
    "map memory writable and executable": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ).close(),
}


def attempt(action: Callable[[], object]) -> str:
    """`done`, or the error's name."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def main() -> int:
    """Try everything."""
    outcome = {
        "needed": {name: attempt(action) for name, action in NEEDED.items()},
        "forbidden": {name: attempt(action) for name, action in FORBIDDEN.items()},
    }
    print(json.dumps(outcome, indent=1))  # noqa: T201 - what the scenario reads
    return 0


if __name__ == "__main__":
    sys.exit(main())
