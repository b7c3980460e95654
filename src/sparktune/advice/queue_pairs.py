"""Joins the kernel's list of RDMA queue pairs with the engines: one list for all, never one for each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sparktune.kernel.attribute import describe_error
from sparktune.kernel.queuepairs import Holders, find_holders
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sparktune.advice.examination import Suspect
    from sparktune.kernel.root import Root


def count_queue_pairs(root: Root, suspects: Iterable[Suspect]) -> None:
    """Put the number of queue pairs into the evidence of the engines that were just looked at.

    The kernel is asked only if one of them has an RDMA device open, or keeps it to itself whether it has.
    """
    engines = [one for one in suspects if one.engine is not None]
    if all(one.evidence.uverbs == () for one in engines):
        return
    try:
        holders = find_holders(root)
    except OSError as error:
        gap = plain(describe_error(error, "ask for RDMA queue pairs"))
        for one in engines:
            if one.evidence.uverbs != ():
                one.evidence = replace(one.evidence, unreadable=(*one.evidence.unreadable, gap))
        return
    for one in engines:
        one.evidence = replace(one.evidence, queue_pairs=_count(one, holders))


def _count(one: Suspect, holders: Holders | None) -> int | None:
    """How many an engine has; None: none is listed for it, and that need not mean that it has none."""
    found = holders.of.get(one.sketch.pid, 0) if holders else 0
    if found:
        return found
    # A device of its own network namespace is not listed for us (rdma-system(8), netns exclusive), and one
    # whose thread has ended is listed without a pid.
    hidden = holders is None or holders.orphans or (one.engine is not None and one.engine.container)
    return None if hidden else 0
