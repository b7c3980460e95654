"""Runs inside the guest: asks `/status` over and over until SIGTERM, and prints how each request ended.

Each has a connection of its own, as from a curl; a line is the answer's code, or why there was none.
"""

from __future__ import annotations

import signal
import sys
import time
from http.client import HTTPConnection, HTTPException

PORT = 9300
LIMIT_S = 60.0
PAUSE_S = 0.5


def main() -> int:
    """Ask, note."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    while not ended:
        print(ask())  # noqa: T201 - what the scenario reads
        time.sleep(PAUSE_S)
    return 0


def ask() -> str:
    """One request."""
    connection = HTTPConnection("localhost", PORT, timeout=LIMIT_S)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        answer.read()
    except (OSError, HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return str(answer.status)


if __name__ == "__main__":
    sys.exit(main())
