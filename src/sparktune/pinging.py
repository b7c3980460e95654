"""Asks the peers: when, with which sizes, and what the answers mean. Sends, and reads later; never waits.

Nothing wakes up for an answer: they queue up in the socket and are read at the next due time, so that many
peers cost hardly more wake-ups than one.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from sparktune.kernel.path import ANSWERS, NO_ANSWER, Found, Pair, PathAttribute
from sparktune.model import Reading, ReadingKind
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparktune.kernel.ping import Answer, Pinger

EVERY_S = 300.0
"""Between two rounds without an event."""
SETTLE_S = 2.0
"""After an event: the other end of a cable needs its moment too."""
AGAIN_S = 15.0
"""Between two rounds over one interface: a link that comes and goes must not make us send all day."""
WAITS_S = (0.2, 0.5, 1.0)
"""For the answers to the first sending, and to those that repeat what was not answered."""
MOST_AT_ONCE = 16
"""Pairs asked at the same time: as many large answers as a socket's queue takes."""

_SMALL = 84
"""Bytes of a usual ping."""
_USUAL = (1280, 1500, 4200, 9000)
"""MTUs to look for where the interface's own does not pass: IPv6's least, Ethernet, RoCE with 4096, jumbo."""
_HINT = (
    "to let the daemon ping: install -D /usr/share/sparktune/peers.conf "
    "/etc/systemd/system/sparktune.service.d/peers.conf; systemctl daemon-reload; systemctl restart sparktune"
)
_SMALLER = "larger packets do not pass: the other end has a smaller MTU, or something between has"
_NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT})
_REFUSALS = {
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ECONNREFUSED: "refused",
}


class _Asked:
    """One pair while its answers are awaited."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.passed: set[int] = set()
        self.refused: dict[int, int] = {}
        self.hints: set[int] = set()

    def missing(self, turn: int) -> list[int]:
        """The sizes to send: a small one and the whole MTU first, the usual ones where that does not pass."""
        full = self.pair.mtu
        sizes = {_SMALL, full}
        if turn and full not in self.passed:
            sizes |= {size for size in _USUAL if size < full}
        return sorted(sizes - self.passed - self.refused.keys())

    def take(self, size: int, answer: Answer) -> None:
        """Note what came back for one size."""
        if answer.error == 0 and answer.mtu is None:
            self.passed.add(size)
        elif answer.error in (0, errno.EMSGSIZE):  # in pieces, or a router's "fragmentation needed"
            self.refused[size] = errno.EMSGSIZE
            if answer.mtu is not None and answer.mtu < self.pair.mtu:
                self.hints.add(answer.mtu)
        else:
            self.refused[size] = answer.error

    def found(self) -> Found:
        """What it comes to."""
        if not self.passed and not self.hints:
            refusals = [_REFUSALS[error] for error in self.refused.values() if error in _REFUSALS]
            return Found(refusals[0] if refusals else NO_ANSWER)
        mtu = max(self.passed | self.hints)
        return Found(ANSWERS, mtu, "" if mtu == self.pair.mtu else _SMALLER)


class Pinging:
    """When to ask whom. What was found is told to the checks."""

    def __init__(self, ways: Callable[[], Iterable[PathAttribute]], changed: Callable[[], None]) -> None:
        """Nothing is due until `begin`.

        Args:
            ways: the checks that want answers now.
            changed: called after they were told something that they did not know.
        """
        self._ways = ways
        self._changed = changed
        self._found: dict[Pair, Found] = {}
        self._due: dict[str, float] = {}
        self._ended_s: dict[str, float] = {}
        self._round_s: float | None = None
        self._queue: list[Pair] = []
        self._asked: list[_Asked] = []
        self._pingers: dict[tuple[str, int], Pinger] = {}
        self._sent: dict[tuple[str, int, int], tuple[_Asked, int]] = {}
        self._turn = 0
        self._next_s: float | None = None

    def begin(self, netdevs: Iterable[str] | None = None, *, at_once: bool = False) -> None:
        """Ask soon, or at once: out of these interfaces and where nothing is known yet, or (None) of all."""
        ways = [way for way in self._ways() if way.fixed is None]
        names = {way.pair.netdev for way in ways}
        now_s = time.monotonic()
        if netdevs is None or self._round_s is None:
            self._round_s = now_s + EVERY_S if names else None
        new = {way.pair.netdev for way in ways if way.found is None}
        for name in names if netdevs is None else names & set(netdevs) | new:
            soon_s = max(now_s + SETTLE_S, self._ended_s.get(name, float("-inf")) + AGAIN_S)
            self._due[name] = now_s if at_once else min(soon_s, self._due.get(name, soon_s))

    def due_s(self) -> float | None:
        """When `turn` has something to do next, on CLOCK_MONOTONIC; None without peers."""
        if self._next_s is not None:
            return self._next_s
        dues = [*self._due.values(), *([] if self._round_s is None else [self._round_s])]
        return min(dues, default=None)

    def turn(self) -> None:
        """Do what is due: send, read the answers, conclude."""
        now_s = time.monotonic()
        due_s = self.due_s()
        if due_s is None or now_s < due_s:
            return
        if self._asked:
            self._read()
            if self._turn < len(WAITS_S) and any(one.missing(self._turn) for one in self._asked):
                self._send()
                return
            self._conclude()
        elif self._round_s is not None and now_s >= self._round_s:
            self.begin(at_once=True)
        self._next(now_s)

    def _next(self, now_s: float) -> None:
        """The next pairs; with none left the sockets are closed and the news told."""
        if not self._queue:
            self._queue = self._due_pairs(now_s)
        batch, self._queue = self._queue[:MOST_AT_ONCE], self._queue[MOST_AT_ONCE:]
        self._asked = [_Asked(pair) for pair in batch]
        self._turn = 0
        if self._asked:
            self._send()
            return
        self.close()
        self._tell()

    def _due_pairs(self, now_s: float) -> list[Pair]:
        names = {name for name, due_s in self._due.items() if due_s <= now_s}
        if not names:
            return []
        asked = {way.pair for way in self._ways() if way.fixed is None}
        pairs = sorted(asked, key=lambda pair: (pair.netdev, pair.address))
        for name in names:
            del self._due[name]
        self._ended_s = {pair.netdev: self._ended_s.get(pair.netdev, float("-inf")) for pair in pairs}
        self._ended_s |= dict.fromkeys(names & self._ended_s.keys(), now_s)
        return [pair for pair in pairs if pair.netdev in names]

    def _send(self) -> None:
        for one in list(self._asked):
            try:
                self._send_one(one)
            except OSError as error:
                self._asked.remove(one)
                self._found[one.pair] = _refusal(one.pair, error)
        self._next_s = time.monotonic() + (WAITS_S[self._turn] if self._asked else 0.0)
        self._turn += 1

    def _send_one(self, one: _Asked) -> None:
        pair = one.pair
        family = socket.AF_INET6 if ":" in pair.address else socket.AF_INET
        pinger = self._pingers.get((pair.netdev, family))
        if pinger is None:
            pinger = self._pingers[pair.netdev, family] = _open(pair.netdev, family)
        for size in one.missing(self._turn):
            number = len(self._sent) % 65536
            self._sent[pair.netdev, family, number] = one, size
            try:
                pinger.send(pair.address, number, size)
            except OSError as error:
                if error.errno in _NOT_ALLOWED or error.errno == errno.ENODEV:
                    raise
                one.refused[size] = error.errno or errno.EIO

    def _read(self) -> None:
        for (netdev, family), pinger in self._pingers.items():
            for answer in pinger.read():
                asked = self._sent.get((netdev, family, answer.sequence))
                if asked is not None and answer.source in ("", asked[0].pair.address):
                    asked[0].take(asked[1], answer)

    def _conclude(self) -> None:
        for one in self._asked:
            self._found[one.pair] = one.found()
        self._asked = []
        self._next_s = None

    def _tell(self) -> None:
        """Hand over what was found. Looked up only now: a discovery may have made the checks anew."""
        news = False
        for way in self._ways():
            found = self._found.get(way.pair)
            if found is not None and way.fixed is None:
                news |= way.found != found
                way.found = found
        self._found.clear()
        if news:
            self._changed()

    def close(self) -> None:
        """Close the sockets: none is open between two rounds."""
        for pinger in self._pingers.values():
            pinger.close()
        self._pingers.clear()
        self._sent.clear()
        self._asked = []
        self._next_s = None


def _open(netdev: str, family: int) -> Pinger:
    from sparktune.kernel.ping import Pinger  # only where peers are configured

    return Pinger(netdev, family)


def _refusal(pair: Pair, error: OSError) -> Found:
    name = errno.errorcode.get(error.errno or 0, "?")
    said = f"ping out of {plain(pair.netdev)} to {pair.address}: {error.strerror or error} ({name})"
    if error.errno in _NOT_ALLOWED:
        return Found(unsent=Reading(ReadingKind.BLOCKED, reason=f"{said}; {_HINT}"))
    kind = ReadingKind.ABSENT if error.errno == errno.ENODEV else ReadingKind.FAILED
    return Found(unsent=Reading(kind, reason=said))
