"""Runs inside the guest: disturbs an attribute and prints after how many µs the kernel has the value again.

Usage: measure_heal.py PATH BAD WANTED LIMIT_S [COMMAND …]. Writes BAD itself, or lets COMMAND disturb and
counts from its start. `seen_bad`: whether the polling saw another value at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> int:
    """Disturb, poll, print."""
    path, bad, wanted = sys.argv[1:4]
    limit_s = float(sys.argv[4])
    command = sys.argv[5:]
    reader = os.open(path, os.O_RDONLY)
    began_ns = time.monotonic_ns()
    if command:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        writer = os.open(path, os.O_WRONLY | os.O_TRUNC)
        began_ns = time.monotonic_ns()
        os.write(writer, bad.encode())
    seen_bad = False
    end_ns = began_ns + int(limit_s * 1e9)
    while True:
        value = os.pread(reader, 4096, 0).decode().strip()
        now_ns = time.monotonic_ns()
        seen_bad = seen_bad or value != wanted
        if value == wanted:
            print(json.dumps({"healed_us": (now_ns - began_ns) // 1000, "seen_bad": seen_bad}))  # noqa: T201
            return 0
        if now_ns > end_ns:
            print(json.dumps({"healed_us": None, "value": value, "seen_bad": seen_bad}))  # noqa: T201
            return 1


if __name__ == "__main__":
    sys.exit(main())
