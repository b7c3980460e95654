"""Runs inside the guest: tells, with times, every value that an attribute takes while somebody acts.

Usage: trace_value.py PATH WANTED QUIET_S LIMIT_S [COMMAND …]. PATH is opened anew for each look, so that a
device may leave and come back; null stands for an attribute that is not there. While it looks, LOOKING is
there. Ends when WANTED has been there for QUIET_S after something else was; UNCHANGED_S after the end of a
command that changed nothing; or after LIMIT_S.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

EVERY_S = 0.0005
UNCHANGED_S = 5.0
LOOKING = Path("/run/trace_value.looking")
"""There while we look: what others do should begin only then."""


def look(path: Path) -> str | None:
    """What is there now."""
    with suppress(OSError):
        return path.read_text().strip()
    return None


def main() -> int:
    """Start, look until it is quiet, print."""
    path, wanted = Path(sys.argv[1]), sys.argv[2]
    quiet_s, limit_s = float(sys.argv[3]), float(sys.argv[4])
    seen: list[tuple[int, str | None]] = [(0, look(path))]
    LOOKING.touch()
    began_ns = since_ns = time.monotonic_ns()
    process = subprocess.Popen(sys.argv[5:], stdout=subprocess.DEVNULL) if sys.argv[5:] else None
    running = process
    unchanged_s = limit_s if process is None else UNCHANGED_S
    while (now_ns := time.monotonic_ns()) - began_ns < limit_s * 1e9:
        value = look(path)
        if value != seen[-1][1]:
            since_ns = time.monotonic_ns()
            seen.append(((since_ns - began_ns) // 1000, value))
        elif running is not None and running.poll() is not None:
            running, since_ns = None, now_ns
        quiet_for_s = (now_ns - since_ns) / 1e9
        if value == wanted and running is None and quiet_for_s > (quiet_s if len(seen) > 1 else unchanged_s):
            break
        time.sleep(EVERY_S)
    LOOKING.unlink(missing_ok=True)
    code = 0 if process is None else process.wait()
    print(json.dumps({"seen": seen, "code": code}))  # noqa: T201
    return 0 if code == 0 and seen[-1][1] == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
