"""A link that changes: from a new MTU until its verdict, and what a flapping link costs in wake-ups.

A daemon on a simulated machine in a network namespace of its own, where a veth has the name of a ConnectX-7
function: its events are the kernel's, and so are its MTU and carrier, through a sysfs mounted there.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground import BenchError
from report import Figures, Limit, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ground import Bench
    from sparktune.daemon import Daemon

_LINK, _PEER = "enp1s0f0np0", "peer0"
_CHECK = "roce.p0.twins_mtu"
_SIOCSIFMTU = 0x8922
_TIMES, _QUICK_TIMES = 200, 50
_WINDOW_S, _QUICK_WINDOW_S = 60.0, 20.0
_HALF_S = 1.0
_MINUTE_S = 60.0
_MOST_WAKEUPS = 120.0


def measure(bench: Bench) -> Iterator[Row]:
    """Both, in one child process that takes its namespaces with it when it ends."""
    times, window_s = (
        bench.pick(_TIMES, _QUICK_TIMES),
        float(bench.pick(int(_WINDOW_S), int(_QUICK_WINDOW_S))),
    )
    bench.say(f"{times} new MTUs, then {window_s:g} s of a flapping link")
    directory = bench.memory / "links"
    directory.mkdir()
    words = [sys.executable, __file__, str(directory), str(times), str(window_s)]
    outcome = subprocess.run(words, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise BenchError(outcome.stderr.strip().splitlines()[-1] if outcome.stderr else "the child failed")
    found = json.loads(outcome.stdout.splitlines()[-1])
    yield Row(
        measure="a new MTU of a quiet link until its verdict", unit="µs", figures=summarise(found["us"])
    )
    wakeups = found["wakeups"] * _MINUTE_S / window_s
    yield Row(
        measure=f"wake-ups with a link that flaps every {2 * _HALF_S:g} s",
        unit="/min",
        figures=Figures(1, wakeups),
        limits=(Limit(f"≤ {_MOST_WAKEUPS:g}", wakeups, _MOST_WAKEUPS),),
        note=f"{found['looks']} readings of the fabric in {window_s:g} s",
    )


# -- the child -----------------------------------------------------------------------------------------------


def _run(directory: Path, times: int, window_s: float) -> None:
    _enter()
    daemon = _start(directory)
    try:
        found: dict[str, Any] = {"us": [_time_one(daemon, number) for number in range(times)]}
        found |= _flap(daemon, window_s)
    finally:
        daemon.stop()
    print(json.dumps(found))


def _enter() -> None:
    """Namespaces of our own for network and mounts. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000 | 0x00020000):  # CLONE_NEWNET | CLONE_NEWNS
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    for words in (
        ["mount", "--make-rprivate", "/"],
        ["ip", "link", "add", _LINK, "type", "veth", "peer", "name", _PEER],
        ["ip", "link", "set", _PEER, "mtu", "9000", "up"],
        ["ip", "link", "set", _LINK, "mtu", "9000", "up"],
    ):
        subprocess.run(words, check=True)


def _start(directory: Path) -> Daemon:
    from sparktune.daemon import Daemon
    from sparktune.kernel.root import Root
    from sparktune.places import Places
    from sparktune.simulate.tree import build

    tree, sysfs = directory / "tree", directory / "sys"
    build(tree, scenario="healthy-pair")
    sysfs.mkdir()
    subprocess.run(["mount", "-t", "sysfs", "none", str(sysfs)], check=True)
    for name in ("mtu", "carrier", "carrier_down_count"):
        file = tree / "sys/class/net" / _LINK / name
        file.unlink()
        file.symlink_to(sysfs / "class/net" / _LINK / name)
    config = directory / "sparktune.toml"
    config.write_text('nvme.policy = "off"\ncpuidle.policy = "off"\n')
    os.environ.pop("NOTIFY_SOCKET", None)
    places = Places(root=Root(tree), config=config, run_dir=directory / "run", state_dir=directory / "state")
    daemon = Daemon(places)
    daemon.start()
    daemon.triggers.open_others()  # a daemon on a tree opens none: here some come from a kernel
    _turn_for(daemon, 3.0)
    return daemon


def _turn_for(daemon: Daemon, seconds: float) -> int:
    """Turn the daemon's loop; how often it woke up."""
    turns, end_s = 0, time.monotonic() + seconds
    while time.monotonic() < end_s:
        daemon._turn()  # noqa: SLF001 - its loop, so that what is measured is the daemon
        turns += 1
    return turns


def _time_one(daemon: Daemon, number: int) -> float:
    """From before the ioctl until the check has its new verdict, in µs. The link was quiet before."""
    from sparktune.links import Links

    daemon.triggers.links = Links(daemon.keeper)
    held = daemon.engine.held[_CHECK]
    before, mtu = held.verdict, 9000 if number % 2 else 1500
    _turn_for(daemon, 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        began_s = time.monotonic()
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("=16si20x", _LINK.encode(), mtu))
    while held.verdict is before:
        daemon._turn()  # noqa: SLF001 - as above
    took_us = (time.monotonic() - began_s) * 1e6
    _turn_for(daemon, 0.2)
    return took_us


def _flap(daemon: Daemon, window_s: float) -> dict[str, int]:
    """How often the daemon woke up, and read the fabric, while the other end of the link goes down and up."""
    code = f"""
import subprocess, time
end_s, up = time.monotonic() + {window_s}, True
while time.monotonic() < end_s:
    up = not up
    subprocess.run(["ip", "link", "set", "{_PEER}", "up" if up else "down"], check=True)
    time.sleep({_HALF_S})
"""
    view = daemon.engine.held[_CHECK].tunable.attribute._view  # type: ignore[attr-defined]  # noqa: SLF001
    before = view.readings
    with subprocess.Popen([sys.executable, "-c", code]) as flapping:
        wakeups = _turn_for(daemon, window_s)
        flapping.wait()
    return {"wakeups": wakeups, "looks": view.readings - before}


if __name__ == "__main__":
    _run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
