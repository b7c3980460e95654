"""When Python looks for garbage: not while a program starts.

What a start makes is there to stay, and looking through all of it again and again is a tenth of its time.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_RARELY = 200_000
"""New objects before Python looks: more than any start makes. The first look at so many takes 20 ms."""


def expect_start() -> None:
    """Look rarely from now on. Enough for a command; who runs on for long calls `settle` once it runs."""
    gc.set_threshold(_RARELY)


def settle() -> None:
    """Look as usual again, but never at what is there now: it lives for ever.

    The garbage of the start is among it, 0.3 MiB in the daemon. To find that would take 30 ms.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)
