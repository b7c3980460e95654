"""Puts originals back by compare-and-swap: only what is still ours is touched, anything else is left alone.

Needs no configuration and no discovery: the originals say how to open their attributes again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from sparktune.errors import StoreError
from sparktune.frozen import frozen
from sparktune.kernel.attribute import describe_error, reopen
from sparktune.kernel.identity import is_still_there
from sparktune.model import ReadingKind, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.kernel.root import Root
    from sparktune.model import Attribute
    from sparktune.originals import Original, Originals

UNTOUCHED = "sparktune never wrote it in this boot"
RESTORED_BEFORE = "it was restored before"


@frozen
class Outcome:
    """What became of one original.

    Attributes:
        id: the tunable's id.
        outcome: `restored`: put back; `already`: it was the original value; `nothing`: we never wrote it;
            `absent`: the device left, and its value with it; `left`: somebody else's value, not touched;
            `failed`: the kernel or the disk refused.
        value: the value that is there now, as far as known.
        reason: why, where the outcome does not say it.
    """

    id: str
    outcome: Literal["restored", "already", "nothing", "absent", "left", "failed"]
    value: Value | None = None
    reason: str = ""


def put_back(root: Root, originals: Originals, entries: Sequence[Original]) -> list[Outcome]:
    """Put these originals back and forget those that are done with.

    Returns:
        One outcome an entry, in their order. A store that cannot be written makes an outcome `failed`:
        the value is back, but its original is still on record.
    """
    outcomes, done = [], []
    emptied: list[Original] = []
    for entry in entries:
        outcome = _put_back_one(root, entry)
        outcomes.append(outcome)
        if outcome.outcome in {"restored", "already", "absent"}:
            done.append(entry.key)
        if entry.makes and outcome.outcome in {"restored", "already"}:
            emptied.append(entry)
    for entry in emptied:  # once all values are back: other ports may have theirs in the same directory
        with suppress(OSError):  # others may have put something into it; an empty directory does no harm
            _attribute_of(root, entry).unprepare()
    try:
        originals.forget(done)
    except StoreError as error:
        outcomes.append(Outcome(id="originals", outcome="failed", reason=error.message))
    return outcomes


def _put_back_one(root: Root, entry: Original) -> Outcome:
    if not is_still_there(root, entry.instance):
        return Outcome(id=entry.id, outcome="absent", reason="the device left, and its value with it")
    attribute = _attribute_of(root, entry)
    try:
        return _swap(entry, attribute)
    finally:
        attribute.close()


def _attribute_of(root: Root, entry: Original) -> Attribute:
    return reopen(root, entry.kind, entry.location, (entry.path, entry.instance), entry.makes)


def _swap(entry: Original, attribute: Attribute) -> Outcome:
    if entry.value is None:
        return Outcome(id=entry.id, outcome="already", reason="only its directory had been planned")
    try:
        if attribute.preparation():  # somebody removed the directory; what was written outlives it
            attribute.prepare()
    except OSError as error:
        return Outcome(id=entry.id, outcome="failed", reason=describe_error(error, f"mkdir {entry.makes}"))
    reading = attribute.read()
    now = reading.value
    if reading.kind is not ReadingKind.VALUE:
        return Outcome(id=entry.id, outcome="failed", reason=reading.reason)
    if now == entry.value:
        return Outcome(id=entry.id, outcome="already", value=now)
    if now not in entry.ours:
        reason = f"it is {now} now, which is not sparktune's value: left alone (original: {entry.value})"
        return Outcome(id=entry.id, outcome="left", value=now, reason=reason)
    return _write(entry, entry.value, attribute)


def _write(entry: Original, value: Value, attribute: Attribute) -> Outcome:
    try:
        attribute.write(value)
    except OSError as error:
        reason = describe_error(error, f"write {value} to {entry.location}")
        return Outcome(id=entry.id, outcome="failed", reason=reason)
    back = attribute.read()
    if back.value != value:
        reason = f"wrote {value}, the kernel keeps {back.value}"
        return Outcome(id=entry.id, outcome="failed", value=back.value, reason=reason)
    return Outcome(id=entry.id, outcome="restored", value=back.value)
