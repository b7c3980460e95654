"""Pings peers as the daemon does, in its network namespace, and prints what the checks then read.

Started as `ip netns exec NAME python tests/asker.py NETDEV ADDRESS MTU …`; a program of its own, since a
namespace is entered by a whole process.
"""

from __future__ import annotations

import json
import sys
import time

from sparktune.kernel.path import Pair, PathAttribute
from sparktune.kernel.root import Root
from sparktune.pinging import Pinging


def main(arguments: list[str]) -> None:
    """Ask until everything is known."""
    words = iter(arguments)
    pairs = [Pair(netdev, next(words), int(next(words))) for netdev in words]
    ways = [PathAttribute(Root(), pair, ("", ""), wants_mtu=mtu) for pair in pairs for mtu in (False, True)]
    told = []
    pinging = Pinging(lambda: ways, lambda: told.append(time.monotonic()))
    began_s = time.monotonic()
    pinging.begin(at_once=True)
    turns = 0
    while any(way.found is None for way in ways):
        time.sleep(max(0.0, (pinging.due_s() or 0.0) - time.monotonic()))
        pinging.turn()
        turns += 1
    readings = {
        f"{way.pair.netdev} {way.pair.address} {kind}": (way.read().kind, way.read().value, way.read().reason)
        for way, kind in zip(ways, ("answers", "mtu") * len(pairs), strict=True)
    }
    took_s = time.monotonic() - began_s
    print(json.dumps({"readings": readings, "turns": turns, "told": len(told), "took_s": took_s}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
