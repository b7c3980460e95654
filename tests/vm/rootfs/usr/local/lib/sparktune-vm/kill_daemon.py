"""Runs inside the guest: kills the daemon again and again, a random moment after systemd has started it.

Prints for each kill how old the process was and whether it had told systemd that it is ready.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

UNIT = "sparktune.service"
RESTARTED_WITHIN_S = 60.0
POLL_S = 0.1


def main(count: str, longest_s: str, seed: str) -> int:
    """Kill so often, each time up to so many seconds after the start."""
    chance = random.Random(seed)  # noqa: S311 - chance is all that is asked for
    kills: list[dict[str, object]] = []
    before = 0
    for _ in range(int(count)):
        pid = await_other(before)
        seen_s = time.monotonic()
        time.sleep(chance.uniform(0, float(longest_s)))
        os.kill(pid, signal.SIGSTOP)  # nothing changes between the look and the kill
        state = ask_systemd("ActiveState")
        kills.append({"pid": pid, "age_s": round(time.monotonic() - seen_s, 3), "was": state})
        os.kill(pid, signal.SIGKILL)
        before = pid
    await_other(before)
    print(json.dumps(kills))  # noqa: T201 - what the scenario reads
    return 0


def await_other(before: int) -> int:
    """The daemon's pid, once it is not this one any more."""
    end_s = time.monotonic() + RESTARTED_WITHIN_S
    while time.monotonic() < end_s:
        pid = int(ask_systemd("MainPID"))
        if pid not in (0, before):
            return pid
        time.sleep(POLL_S)
    sys.exit(f"systemd did not start another daemon within {RESTARTED_WITHIN_S:.0f} s after pid {before}")


def ask_systemd(name: str) -> str:
    """One property of the unit."""
    command = ["systemctl", "show", UNIT, f"--property={name}", "--value"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
