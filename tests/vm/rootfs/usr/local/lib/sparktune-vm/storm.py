"""Runs inside the guest: writes wrong values into attributes, at random, until it is killed."""

from __future__ import annotations

import os
import random
import sys
import time

VALUES = {"read_ahead_kb": ("64", "128", "256", "4096"), "disable": ("0",)}
"""By the file's name: what is wrong while everything is tuned."""


def main(mean_pause_s: str, *paths: str) -> None:
    """Write to one of the files, pause about so long, and again."""
    writers = {path: os.open(path, os.O_WRONLY) for path in paths}
    while True:
        path = random.choice(paths)  # noqa: S311 - chance is all that is asked for
        os.pwrite(writers[path], random.choice(VALUES[os.path.basename(path)]).encode(), 0)  # noqa: PTH119, S311
        time.sleep(random.expovariate(1 / float(mean_pause_s)))


if __name__ == "__main__":
    main(*sys.argv[1:])
