"""Looks again some moments after an event: the kernel tells of a device first and goes on changing it.

A reset NVMe controller says `connected` and only then looks through its namespaces, which puts read_ahead_kb
back in silence. Nothing says when it is done.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sparktune.model import Cause, Noticed

LOOKS_AFTER_S = (0.02, 0.1, 0.3, 1.0, 3.0)
"""How long after the event each look is; what comes later still is left to the sweep."""


@dataclass(slots=True)
class _Event:
    """An event that is still settling: when it came, what it was, and how many looks it has had."""

    at_s: float
    noticed: Noticed
    cause: Cause
    looks: int = 0

    @property
    def due_s(self) -> float:
        """When the next look is due; never once all of them are over."""
        return self.at_s + LOOKS_AFTER_S[self.looks] if self.looks < len(LOOKS_AFTER_S) else math.inf


class Settling:
    """What to look at again, and when. Looks only, as the sweep does; finds no new devices."""

    def __init__(self, look: Callable[[Iterable[str] | None, Noticed, Cause], None]) -> None:
        """Nothing to look at yet; `look` is given areas (None: all of them), the trigger and the cause."""
        self._look = look
        self._events: dict[tuple[str, ...] | None, _Event] = {}

    def begin(self, names: Iterable[str] | None, noticed: Noticed, cause: Cause) -> None:
        """An event of these areas came and was dealt with; a newer one takes the place of an older one."""
        key = None if names is None else tuple(names)
        self._events[key] = _Event(time.monotonic(), noticed, cause)

    def due_s(self) -> float | None:
        """When the next look is due; None if nothing settles."""
        return min((event.due_s for event in self._events.values()), default=None)

    def turn(self) -> None:
        """Do the looks that are due. What they find is told with how long after the event it was."""
        now_s = time.monotonic()
        for names, event in list(self._events.items()):
            if event.due_s > now_s:
                continue
            while event.due_s <= now_s:  # one look is enough for those that were missed
                event.looks += 1
            if event.due_s == math.inf:
                del self._events[names]
            after_s = now_s - event.at_s
            detail = f"{after_s:.2f} s after {event.cause.detail}"
            self._look(names, event.noticed, replace(event.cause, detail=detail))
