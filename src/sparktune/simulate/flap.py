"""Lets a link of a simulated machine go down and up by itself, as with a bad cable, and says so.

A process of its own. Writes to simulated trees only, and only what a driver would say of its link.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sparktune.errors import SparktuneError
from sparktune.simulate import tree
from sparktune.simulate.child import name_process

if TYPE_CHECKING:
    from collections.abc import Iterator

COMM = "flapper"
DOWN_S = (0.3, 2.0, 6.0)
"""How long the link is down, in turns: two that the driver gets over by itself, and a long one."""
UP_S = 20.0


def flaps() -> Iterator[tuple[bool, float]]:
    """Whether the link goes up or down next, and for how many seconds, for ever."""
    while True:
        for down_s in DOWN_S:
            yield False, down_s
            yield True, UP_S


def main() -> int:
    """Let the link of the interface given second go down and up, in the tree given first, until killed."""
    directory, netdev = Path(sys.argv[1]), sys.argv[2]
    name_process(COMM)
    for up, seconds in flaps():
        try:
            tree.set_carrier(directory, netdev, up=up)
            what = "has its link again" if up else f"has no link for {seconds:g} s"
            print(f"{COMM} (pid {os.getpid()}): {netdev} {what}", flush=True)  # noqa: T201 - a program of its own that says what it does
        except (SparktuneError, OSError) as error:  # the tree is gone, or nobody reads what we say
            print(f"{COMM}: cannot go on: {error}", file=sys.stderr)  # noqa: T201 - a program of its own that says what it does
            return 1
        time.sleep(seconds)
    raise AssertionError("flaps without end ended")  # pragma: no cover


if __name__ == "__main__":
    sys.exit(main())
