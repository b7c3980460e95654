"""A process that stands in for an engine: it maps, opens, listens and connects as it is told, and then waits.

Run by a copy of the interpreter under the engine's name, or as the engine's module or script. What to do is
one JSON object on standard input; `ready` on standard output says that it is done. Imports nothing of ours.
"""

import ctypes
import json
import mmap
import os
import resource
import socket
import struct
import sys
import threading
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE, PRIVATE, BIND = 0x20000, 0x44000, 0x1000  # CLONE_NEWNS; MS_PRIVATE | MS_REC; MS_BIND
PAGE = 4096


def call(name: str, *arguments: object) -> None:
    """A function of the C library that must not fail."""
    if getattr(LIBC, name)(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, name)


def be_called(line: list[str]) -> None:
    """Write a command line over the own one, as setproctitle does: it is what /proc/PID/cmdline shows."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: proc_pid_stat(5)
    data = b"\0".join(argument.encode() for argument in line) + b"\0"
    assert len(data) <= end - start, "the arguments it was started with are too short to be written over"
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, data, len(data))


def isolate(binds: dict[str, str]) -> None:
    """Have mounts of its own, as in a container: folders that only this process sees at these places."""
    call("unshare", NEW_NAMESPACE)
    call("mount", b"none", b"/", None, PRIVATE, None)
    for source, target in binds.items():
        call("mount", source.encode(), target.encode(), None, BIND, None)


def make_devices(names: list[str]) -> list[object]:
    """Open files of these names below /dev, which only this process sees there: a /dev of its own."""
    if not names:
        return []
    call("mount", b"stand-in", b"/dev", b"tmpfs", 0, None)
    made = [Path("/dev", name) for name in names]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [path.open("rb") for path in made]


def hold(path: str, touched: int) -> mmap.mmap:
    """Map a file and read so much of it: that is then resident."""
    with Path(path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(mapped[: touched or 1 : PAGE])
    return mapped


def accept(listening: socket.socket, kept: list[object]) -> None:
    """Take whoever connects, and say so: connected is one before it is this process's."""
    while True:
        taken, _ = listening.accept()
        kept.append(taken)
        taken.sendall(b"+")


def connect(host: str, port: int) -> socket.socket:
    """A connection to another stand-in that has taken it."""
    connected = socket.create_connection((host, port), timeout=10)
    assert connected.recv(1) == b"+"
    return connected


def main() -> None:
    """Do what standard input says, and wait to be killed."""
    told = json.loads(sys.stdin.readline())
    if told["devices"] or told["binds"]:
        isolate(told["binds"])
    kept: list[object] = [*make_devices(told["devices"])]
    kept += [hold(path, touched) for path, touched in told["maps"].items()]
    kept += [Path(path).open("rb") for path in told["opens"]]  # noqa: SIM115 - that is what it is for
    if told["port"]:
        listening = socket.create_server((told["host"], told["port"]), backlog=64)
        threading.Thread(target=accept, args=(listening, kept), daemon=True).start()
        kept.append(listening)
    kept += [connect(host, port) for host, port in told["connects"]]
    if told["cpus"]:
        os.sched_setaffinity(0, told["cpus"])
    if told["memlock"]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (told["memlock"], told["memlock"]))
        header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3; no capability is left
        call("capset", header, bytes(24))
    if told["line"]:
        be_called(told["line"])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(300)


main()
