"""Runs inside the guest: reads attributes over and over until SIGTERM, and prints whatever else they were.

Usage: watch_values.py FILE. FILE holds lines `PATH VALUE`. Prints how often all were read, the longest time
between two rounds, and each path that was seen with another value.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

PAUSE_S = 0.005
"""Between two rounds: so short that a person's or a package's step is seen, and the guest goes on working."""


def main() -> int:
    """Read, compare, print."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    wanted = {path: value for path, _, value in (line.partition(" ") for line in lines)}
    readers = {path: os.open(path, os.O_RDONLY) for path in wanted}
    seen: dict[str, list[str]] = {}
    rounds, longest_s, last_s = 0, 0.0, time.monotonic()
    while not ended:
        for path, reader in readers.items():
            value = os.pread(reader, 64, 0).decode().strip()
            if value != wanted[path] and value not in seen.setdefault(path, []):
                seen[path].append(value)
        rounds += 1
        now_s = time.monotonic()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
        time.sleep(PAUSE_S)
    print(json.dumps({"rounds": rounds, "longest_s": longest_s, "seen": seen}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
