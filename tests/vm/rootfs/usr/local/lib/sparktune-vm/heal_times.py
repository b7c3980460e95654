"""Runs inside the guest: disturbs attributes again and again, and prints how long their values were wrong.

With --write it writes that value to the one PATH itself, and the time counts from just before the write. With
a command at the end it lets that disturb, and the time counts from the first reading that is not WANTED in
all PATHs until they all have it again: at most one round of readings less than it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

SETTLED_NS = 20_000_000
"""So long everything has to hold after the command's end, before a round is over."""

UNSEEN_NS = 500_000_000
"""So long after the command's end it is waited for a wrong value, if there was none yet."""


class StuckError(Exception):
    """The wanted value did not come back."""


def main() -> int:
    """Disturb, poll, print."""
    arguments = parse()
    readers = [os.open(path, os.O_RDONLY) for path in arguments.paths]
    times_us: list[int] = []
    unseen = 0
    try:
        for _ in range(arguments.count):
            time.sleep(arguments.pause)
            took_ns = measure(arguments, readers)
            unseen += took_ns is None
            times_us += [] if took_ns is None else [took_ns // 1000]
    except StuckError as error:
        print(json.dumps({"times_us": times_us, "unseen": unseen, "stuck": str(error)}))  # noqa: T201
        return 1
    print(json.dumps({"times_us": times_us, "unseen": unseen}))  # noqa: T201
    return 0


def parse() -> argparse.Namespace:
    """Everything up to `--` is ours, the rest is the command."""
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.15)
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--wanted", required=True)
    parser.add_argument("--write")
    parser.add_argument("paths", nargs="+")
    arguments = parser.parse_args(words[:split])
    arguments.command = words[split + 1 :]
    return arguments


def measure(arguments: argparse.Namespace, readers: list[int]) -> int | None:
    """One round; None if the wrong value was never seen."""
    end_ns = time.monotonic_ns() + int(arguments.limit * 1e9)
    if arguments.command:
        return measure_command(arguments, readers, end_ns)
    writer = os.open(arguments.paths[0], os.O_WRONLY)
    began_ns = time.monotonic_ns()
    os.write(writer, arguments.write.encode())
    while not holds(readers, arguments.wanted):
        if time.monotonic_ns() > end_ns:
            raise StuckError(arguments.paths[0])
    took_ns = time.monotonic_ns() - began_ns
    os.close(writer)
    return took_ns


def measure_command(arguments: argparse.Namespace, readers: list[int], end_ns: int) -> int | None:
    """One round with a command, which may disturb at any moment of its life and more than once."""
    wrong_ns = good_ns = ended_ns = None
    process = subprocess.Popen(arguments.command, stdout=subprocess.DEVNULL)
    while True:
        good = holds(readers, arguments.wanted)
        now_ns = time.monotonic_ns()
        if not good:
            wrong_ns, good_ns = wrong_ns or now_ns, None
        elif wrong_ns and not good_ns:
            good_ns = now_ns
        if good and ended_ns is None and process.poll() is not None:
            ended_ns = now_ns
        if ended_ns and wrong_ns and good_ns and now_ns - max(good_ns, ended_ns) > SETTLED_NS:
            return good_ns - wrong_ns
        if ended_ns and not wrong_ns and now_ns - ended_ns > UNSEEN_NS:
            return None
        if now_ns > end_ns:
            raise StuckError(f"{arguments.paths}, {process.poll()}")


def holds(readers: list[int], wanted: str) -> bool:
    """Whether the kernel has the wanted value everywhere."""
    return all(os.pread(reader, 64, 0).decode().strip() == wanted for reader in readers)


if __name__ == "__main__":
    sys.exit(main())
