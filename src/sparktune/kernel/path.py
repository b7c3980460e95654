"""Checks of the ways to the peers: read what pings have found. Sends nothing: `pinging.py` does.

In a tree, where nothing can be sent, `/sys/class/net/<netdev>/netlink/peer/<address>` says it: the largest
packet that passes, or `no answer`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.model import Reading, ReadingKind
from sparktune.wording import plain

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.kernel.root import Root
    from sparktune.model import Attribute, Value

ANSWERS = "answers"
NO_ANSWER = "no answer"
_LATER = "not asked yet: the daemon pings the peers soon after its start and after link events"


@frozen(kw_only=False)
class Pair:
    """A way that is looked at: out of an interface to an address.

    Attributes:
        netdev: the interface.
        address: the peer's, numeric, without a scope.
        mtu: the largest packet that should pass: the interface's own MTU.
    """

    netdev: str
    address: str
    mtu: int


@frozen(kw_only=False)
class Found:
    """What pings found out about a way.

    Attributes:
        answers: `answers`, `no answer`, or how the kernel refused; empty if nothing could be sent.
        mtu: the largest packet that passed both ways, in bytes of IP; None if none did.
        hint: what was seen of a smaller MTU than ours; may be empty.
        unsent: what is read because nothing could be sent; None if it could.
    """

    answers: str = ""
    mtu: int | None = None
    hint: str = ""
    unsent: Reading | None = None


class PathAttribute:
    """A check of one way: whether the peer answers, or how large a packet passes. Never written.

    Attributes:
        pair: the way.
        fixed: what is read without any ping; None where pings tell.
        found: what they told last; None before that. A new discovery's attribute inherits it.
    """

    writable = False
    watched: tuple[Path, ...] = ()
    kind = "path"
    makes = ""

    def __init__(
        self,
        root: Root,
        pair: Pair,
        identity: tuple[str, str],
        *,
        wants_mtu: bool = False,
        fixed: Reading | None = None,
    ) -> None:
        """Describe it; nothing is asked.

        Args:
            root: where the host's files are.
            pair: the way.
            identity: of the interface.
            wants_mtu: read the largest packet and not whether there is an answer.
            fixed: what is to be read without any ping: a link that is down, an address that leads nowhere.
        """
        self.fixed = fixed
        self.found: Found | None = None
        self._root = root
        self._wants_mtu = wants_mtu
        self.pair = pair
        self.identity = identity
        self.location = f"ping out of {plain(pair.netdev)} to {pair.address}"

    def read(self) -> Reading:
        """What is known now; absent before the first answer could come."""
        if self.fixed is not None:
            return self.fixed
        found = self.found if self._root.is_real else self._in_tree()
        if found is None:
            return Reading(ReadingKind.ABSENT, reason=_LATER)
        if found.unsent is not None:
            return found.unsent
        if not self._wants_mtu:
            return Reading(ReadingKind.VALUE, found.answers)
        if found.mtu is None:
            reason = f"{self.pair.address} does not answer out of {plain(self.pair.netdev)}"
            return Reading(ReadingKind.ABSENT, reason=reason)
        return Reading(ReadingKind.VALUE, found.mtu, reason=found.hint)

    def _in_tree(self) -> Found | None:
        text = self._root.read(f"/sys/class/net/{self.pair.netdev}/netlink/peer/{self.pair.address}")
        if text is None:
            return None
        if text.isdecimal():
            return Found(ANSWERS, min(int(text), self.pair.mtu))
        return Found(NO_ANSWER)

    def expire(self) -> None:
        """Nothing: how old an answer may be, `pinging.py` decides."""

    def inherit(self, former: Attribute) -> None:
        """Keep what was found on the same way."""
        if isinstance(former, PathAttribute) and (former.pair, former.fixed) == (self.pair, self.fixed):
            self.found = former.found

    def holds(self, wanted: Value) -> bool:
        """Whether what is known is `wanted`."""
        return self.read().value == wanted

    def exchange(self, wanted: bytes) -> bytes | None:
        """A check is never written."""

    def preparation(self) -> tuple[str, ...]:
        """A check prepares nothing."""
        return ()

    def prepare(self) -> None:
        """A check prepares nothing."""

    def unprepare(self) -> None:
        """A check prepared nothing."""

    def write(self, value: Value) -> None:
        """A check is never written. Raises OSError (always)."""
        raise OSError(errno.EPERM, f"a check cannot be set to {value}", self.location)

    def close(self) -> None:
        """Nothing is open."""
