"""Runs inside the guest: stops the daemon as a hang would, and notes what is seen until another one is up.

Prints when the stopped process ended and when another one was ready, in seconds since the stop, each state
that `/status` told in between, and every value the attribute had.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

UNIT = "sparktune.service"
API = "http://127.0.0.1:9300"
POLL_S = 0.2


def main(path: str, limit_s: str) -> int:
    """Stop it and watch."""
    pid = int(show("MainPID"))
    began_s = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    ended_s = ready_s = None
    states: list[str] = []
    values: set[str] = set()
    while ready_s is None and time.monotonic() - began_s < float(limit_s):
        values.add(Path(path).read_text().strip())
        note(states, ask("/status")["state"])
        if ended_s is None and is_gone(pid):
            ended_s = time.monotonic() - began_s
        if ended_s is not None and show("MainPID") not in ("0", str(pid)) and show("ActiveState") == "active":
            ready_s = int(show("ActiveEnterTimestampMonotonic")) / 1e6 - began_s
        time.sleep(POLL_S)
    seen = {"ended_s": ended_s, "ready_s": ready_s, "states": states, "values": sorted(values)}
    print(json.dumps(seen))  # noqa: T201 - what the scenario reads
    return 0


def note(seen: list[str], state: str) -> None:
    """Append what differs from the last one."""
    if seen[-1:] != [state]:
        seen.append(state)


def is_gone(pid: int) -> bool:
    """Whether the process has ended, buried or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def ask(what: str) -> dict[str, str]:
    """One answer of the API."""
    with urlopen(API + what, timeout=20) as answer:  # noqa: S310 - a fixed address
        document: dict[str, str] = json.load(answer)
    return document


def show(name: str) -> str:
    """One property of the unit."""
    command = ["systemctl", "show", UNIT, f"--property={name}", "--value"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
