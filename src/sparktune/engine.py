"""read - judge - plan - record the original - write - read back - verdict: for any tunable of any area.

Knows nothing about disks, CPUs or RDMA. Is the only one to catch `Exception`: around each tunable, and for
whoever asks `survive`, so that what is broken never costs the others.
"""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sparktune.errors import StoreError
from sparktune.held import Adoption, Held, PlannedWrite
from sparktune.kernel.attribute import decode, describe_error, encode, verdict_of
from sparktune.kernel.identity import is_still_there
from sparktune.kernel.lockdown import add_lockdown
from sparktune.model import (
    Action,
    Drift,
    Noticed,
    Policy,
    Reading,
    ReadingKind,
    Remembering,
    Tunable,
    Value,
    Verdict,
)
from sparktune.originals import Original
from sparktune.published import timestamp
from sparktune.restoring import RESTORED_BEFORE, UNTOUCHED, Outcome, put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sparktune.contest import ContestRule
    from sparktune.kernel.root import Root
    from sparktune.marks import Marks
    from sparktune.originals import Originals

Answer = TypeVar("Answer")

_WITHOUT_VALUE = {
    ReadingKind.ABSENT: Verdict.ABSENT,
    ReadingKind.BLOCKED: Verdict.BLOCKED,
    ReadingKind.FAILED: Verdict.FAILED,
}
_UNCONTESTED = frozenset({Noticed.START, Noticed.REQUEST, Noticed.RELOAD})
_WRITE_TRIES = 2
_MOST_ABSENT = 256


def survive(act: Callable[[], Answer | None], broken: Callable[[Exception], None]) -> Answer | None:
    """What `act` gives; None if it breaks in a way nobody thought of, which `broken` is told."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - what is broken costs only itself
        broken(error)
        return None


class Engine:
    """Holds every tunable to what is wanted of it."""

    def __init__(self, *, root: Root, originals: Originals, marks: Marks, rule: ContestRule) -> None:
        """Start with nothing to hold.

        Args:
            root: where the host's files are.
            originals: the write-ahead store.
            marks: pauses and restored tunables.
            rule: when to stop fighting.
        """
        self.root = root
        self.originals = originals
        self.marks = marks
        self.rule = rule
        self.held: dict[str, Held] = {}
        self.failures: list[tuple[str, BaseException]] = []

    def adopt(
        self,
        area: str,
        tunables: Sequence[Tunable],
        *,
        policy: Policy,
        layers: dict[str, str],
        device: str | None = None,
        patience_s: float = 0.0,
    ) -> Adoption:
        """Take over what a discovery found in an area (or of one device in it); reads and writes nothing.

        What is there and was not found is let go, once no discovery has found it for `patience_s`.
        """
        found = {tunable.id: tunable for tunable in tunables}
        mine = {
            id_: held
            for id_, held in self.held.items()
            if held.tunable.area == area and device in (None, held.tunable.device)
        }
        missing = [held for id_, held in mine.items() if id_ not in found]
        added = [self._take(tunable, policy, layers) for tunable in found.values()]
        left = [held for held in missing if not self._is_there(held)]
        now_s = time.monotonic()
        released = [held for held in missing if held not in left and held.miss(now_s) >= patience_s]
        for held in left:
            self._leave(held)
        for held in released:
            held.tunable.attribute.close()
            del self.held[held.tunable.id]
        self._order(area, found, whole=device is None)
        return Adoption(
            added=tuple(held for held in added if held is not None),
            released=tuple(released),
            left=tuple(left),
        )

    def _take(self, tunable: Tunable, policy: Policy, layers: dict[str, str]) -> Held | None:
        layer = layers.get(tunable.key, "default")
        old = self.held.get(tunable.id)
        if old is None or old.tunable.attribute.identity != tunable.attribute.identity:
            if old is not None:
                old.tunable.attribute.close()
            held = self.held[tunable.id] = Held(tunable=tunable, policy=policy, layer=layer)
            return held
        if isinstance(tunable.attribute, Remembering):
            tunable.attribute.inherit(old.tunable.attribute)
        old.tunable.attribute.close()
        if (old.tunable.wanted, old.policy) != (tunable.wanted, policy):
            old.forgive()
            old.contest.end()
        old.tunable, old.policy, old.layer, old.left, old.armed = tunable, policy, layer, "", None
        old.missed_s = None
        old.version += 1
        return None

    def areas_in_doubt(self) -> set[str]:
        """Areas with tunables that the last discovery did not find, and that may be leaving."""
        return {held.tunable.area for held in self.held.values() if held.missed_s is not None}

    def _is_there(self, held: Held) -> bool:
        """Whether its device is; what never was a device (an offline CPU's state) cannot have left."""
        instance = held.tunable.attribute.identity[1]
        return not held.left and (not instance or is_still_there(self.root, instance))

    def _leave(self, held: Held) -> None:
        held.tunable.attribute.close()
        if not held.left:
            held.left, held.missed_s = timestamp(), None
            held.conclude(Verdict.ABSENT, Reading(ReadingKind.ABSENT), f"left at {held.left}")
        gone = [id_ for id_, other in self.held.items() if other.left]
        for id_ in gone[:-_MOST_ABSENT]:
            del self.held[id_]

    def _order(self, area: str, found: dict[str, Tunable], *, whole: bool) -> None:
        """Keep the order of the areas and of the discovery, whatever came and went."""
        if list(self.held)[-len(found) :] == list(found) or not found:
            return
        areas = list(dict.fromkeys(held.tunable.area for held in self.held.values()))
        first = [tunable.device for tunable in found.values()] if whole else []
        devices = list(dict.fromkeys([*first, *(held.tunable.device for held in self.held.values())]))
        places = {name: number for number, name in enumerate(devices)}
        rank = {id_: number for number, id_ in enumerate(found)}

        def place(item: tuple[str, Held]) -> tuple[int, int, int]:
            tunable = item[1].tunable
            mine = tunable.area == area
            return areas.index(tunable.area), places[tunable.device] * mine, rank.get(item[0], 0) * mine

        self.held = dict(sorted(self.held.items(), key=place))

    # -- looking ---------------------------------------------------------------------------------------------

    def look(self, held: Held, noticed: Noticed, *, heal: bool = True) -> Drift | None:
        """Read and judge one tunable, and heal it if it may be. Returns the drift if this is a new one."""
        if held.left:  # its path may have become another device's: only a new discovery takes it up again
            return None
        return self._guarded(held, partial(self._look, noticed=noticed, heal=heal))

    def expire(self, states: Iterable[Held]) -> None:
        """Something happened to these: what they remember may be outdated."""
        for held in states:
            if isinstance(held.tunable.attribute, Remembering):
                held.tunable.attribute.expire()

    def _guarded(self, held: Held, act: Callable[[Held], Answer | None]) -> Answer | None:
        return survive(partial(act, held), partial(self._break, held))

    def _break(self, held: Held, error: Exception) -> None:
        self.failures.append((held.tunable.id, error))
        reason = f"internal error, please report it: {type(error).__name__}: {error}"
        held.conclude(Verdict.FAILED, Reading(ReadingKind.FAILED, reason=reason), reason)

    def parry(self, held: Held) -> bytes | None:
        """The heal in the fewest steps, for a tunable that nothing speaks against healing.

        Returns:
            What was found and overwritten; give it to `account`. None: `look` decides.
        """
        if held.armed is None:
            return None
        found = held.tunable.attribute.exchange(held.armed)
        if found is not None:
            held.contest.count_heal(time.monotonic())
            if not held.contest.has_room(self.rule):
                held.armed = None
        return found

    def look_together(self, states: Sequence[Held], noticed: Noticed) -> list[Drift | None]:
        """`look` at several, with one fsync for all the originals that are not on disk yet."""
        if len(states) > 1:
            self._record_ahead(states)
        return [self.look(held, noticed) for held in states]

    def account(self, held: Held, found: bytes, noticed: Noticed) -> Drift | None:
        """Judge after a parry what `look` judges before a heal. Returns the drift; then ask `holds`."""
        wanted = held.tunable.wanted
        reading = decode(found, "integer" if isinstance(wanted, int) else "text")
        if wanted is None or held.left or reading.kind is not ReadingKind.VALUE:
            return self.look(held, noticed)
        if held.verdict is Verdict.CONTESTED:  # parried before the fight was given up, and booked after it
            held.heals += 1
            return self._drift(held, reading, Action.HEALED)
        return self._healed(held, reading, wanted, Action.HEALED)

    def accuse(self, held: Held, who: str, name: str) -> None:
        """Note a rival; a fight may have been given up before it was known who wrote."""
        held.contest.accuse(who, name, time.monotonic())
        if held.verdict is Verdict.CONTESTED:
            held.conclude(held.verdict, held.reading, held.contest.describe())

    def holds(self, held: Held) -> bool:
        """Whether a tunable that was concluded to hold does so now."""
        wanted = held.tunable.wanted
        return held.verdict is not Verdict.OK or wanted is None or held.tunable.attribute.holds(wanted)

    def sweep(self, noticed: Noticed, *, heal: bool = True) -> list[Drift]:
        """Look at everything; what holds costs one pread each."""
        drifts: list[Drift] = []
        states = list(self.held.values())
        states.reverse()
        look_on = partial(self._look_on, states, drifts, noticed, heal=heal)
        while states:  # what breaks ends one round, and the next one goes on behind it
            survive(look_on, lambda error: self._break(states.pop(), error))
        self.finish()
        return drifts

    def _look_on(self, states: list[Held], drifts: list[Drift], noticed: Noticed, *, heal: bool) -> None:
        """Look at the last of these until there are none: the guard is entered once for all that is well."""
        pauses = bool(self.marks.pauses())
        while states:
            held = states[-1]
            tunable, verdict, wanted = held.tunable, held.verdict, held.tunable.wanted
            if (
                verdict is Verdict.OK
                and wanted is not None
                and tunable.attribute.holds(wanted)
                and not (pauses and self.marks.find_pause(tunable.area, tunable.id))
            ):
                pass
            elif not held.left:  # else its path may have become another device's
                reading = tunable.attribute.read()
                # Not an equal one but the same: whoever reads has not looked anew.
                if verdict is not Verdict.ABSENT or reading is not held.reading:
                    drift = self._judge(held, reading, noticed, heal=heal)
                    if drift is not None:
                        drifts.append(drift)
            states.pop()

    def apply(self, ids: Iterable[str] | None, noticed: Noticed) -> list[Drift]:
        """Write what differs now, whatever holds and refusals say; one fsync for all originals.

        Ends the pauses of what is named; under a wider pause (an area, everything) a tunable stays paused.

        Raises:
            StoreError: the marks cannot be stored.
        """
        ids = None if ids is None else list(ids)
        chosen = self.choose(ids)
        if noticed is Noticed.REQUEST:
            self.marks.clear_restored(held.tunable.id for held in chosen)
            self.marks.resume({"*"} if ids is None else {*ids, *(held.tunable.id for held in chosen)})
            for held in chosen:
                held.contest.end()
                held.forgive()
            self.expire(chosen)
        self._record_ahead(chosen)
        drifts = [self.look(held, noticed) for held in chosen if not held.tunable.is_check]
        drifts += [self.look(held, noticed) for held in chosen if held.tunable.is_check]
        self.finish()
        return [drift for drift in drifts if drift is not None]

    def choose(self, ids: Iterable[str] | None) -> list[Held]:
        """The tunables with these ids or areas; all for None. Unknown names choose nothing."""
        if ids is None:
            return list(self.held.values())
        names = set(ids)
        return [held for id_, held in self.held.items() if id_ in names or held.tunable.area in names]

    def plan(self, ids: Iterable[str] | None = None) -> list[PlannedWrite]:
        """The writes `apply` would do, with what is there now; writes nothing."""
        planned = [self._guarded(held, _plan) for held in self.choose(ids) if not held.left]
        return [write for write in planned if write is not None]

    def finish(self) -> None:
        """Store what the last writes settled; a full disk costs nothing here: the disk knows enough."""
        try:
            self.originals.save()
        except StoreError as error:
            self.failures.append(("originals", error))

    def _record_ahead(self, chosen: Sequence[Held]) -> None:
        """One fsync for many first writes. If it fails, each write tries again for itself and says so."""
        planned = self.plan([held.tunable.id for held in chosen])
        due = [item for item in planned if not item.before and not self._stands_off(item.held, item.found)]
        try:
            self.originals.record([self._original(item.held, item.found) for item in due])
        except StoreError as error:
            self.failures.append(("originals", error))

    def _stands_off(self, held: Held, found: Value | None) -> bool:
        tunable = held.tunable
        if held.refused is not None and held.refused[:2] == (tunable.wanted, found):
            return True
        restored = self.marks.find_restored(tunable.id)
        return restored is not None or self.marks.find_pause(tunable.area, tunable.id) is not None

    # -- putting back ----------------------------------------------------------------------------------------

    def restore(self, ids: Iterable[str] | None, *, by: str) -> list[Outcome]:
        """Put originals back by compare-and-swap and take the tunables out of management until `apply`.

        Raises:
            StoreError: the marks cannot be stored; nothing was put back then.
        """
        chosen = [held for held in self.choose(ids) if not held.tunable.is_check]
        names = {held.tunable.id for held in chosen}
        asked = names | set(ids or ())  # an original may outlive its discovery: it is asked for by its id
        entries = [entry for entry in self.originals.all() if ids is None or entry.id in asked]
        before = {name for name in names if self.marks.find_restored(name)}
        self.marks.mark_restored(names | {entry.id for entry in entries}, by=by, at=timestamp())
        outcomes = put_back(self.root, self.originals, entries)
        told = {outcome.id for outcome in outcomes}
        outcomes += [
            Outcome(id=name, outcome="nothing", reason=RESTORED_BEFORE if name in before else UNTOUCHED)
            for name in sorted(names - told)
        ]
        for held in self.choose(ids):
            self.look(held, Noticed.REQUEST)
        return outcomes

    def release(self) -> list[Outcome]:
        """Put back what the configuration no longer manages; what it merely reports stays as it is."""
        entries = [
            entry
            for entry in self.originals.all()
            if (held := self.held.get(entry.id)) is None or held.policy is Policy.OFF
        ]
        outcomes = put_back(self.root, self.originals, entries) if entries else []
        for held in self.choose({entry.id for entry in entries}):
            self.look(held, Noticed.RELOAD)
        return outcomes

    # -- judging one tunable ---------------------------------------------------------------------------------

    def _look(self, held: Held, noticed: Noticed, *, heal: bool) -> Drift | None:
        return self._judge(held, held.tunable.attribute.read(), noticed, heal=heal)

    def _judge(self, held: Held, reading: Reading, noticed: Noticed, *, heal: bool) -> Drift | None:
        tunable = held.tunable
        restored = self.marks.find_restored(tunable.id)
        if restored is not None:
            left = "" if self.originals.find(held.key) is None else "let go, not "
            held.conclude(Verdict.UNMANAGED, reading, f"{left}restored by {restored.by} at {restored.at}")
            return None
        if held.policy is Policy.OFF:
            held.conclude(Verdict.UNMANAGED, reading, "policy is off")
            return None
        if reading.kind is not ReadingKind.VALUE:
            held.conclude(_WITHOUT_VALUE[reading.kind], reading, reading.reason)
            return None
        pause = self.marks.find_pause(tunable.area, tunable.id)
        if pause is not None:
            return self._stand(held, Verdict.PAUSED, reading, f"paused until {timestamp(pause.until())}")
        if reading.value == tunable.wanted:
            held.forgive()
            held.conclude(Verdict.OK, reading, reading.reason)
            self._arm(held)
            return None
        return self._answer(held, reading, noticed, heal=heal)

    def _answer(self, held: Held, reading: Reading, noticed: Noticed, *, heal: bool) -> Drift | None:
        """The value differs: heal it, or say why not."""
        tunable = held.tunable
        if tunable.is_check or held.policy is Policy.REPORT or not heal or tunable.yields:
            return self._stand(
                held, Verdict.DRIFT, reading, reading.reason or tunable.yields, Action.REPORTED
            )
        refused = held.refused
        if refused is not None and refused[:2] == (tunable.wanted, reading.value):
            held.conclude(refused[2], reading, refused[3])
            return None
        waits = _waits(tunable, noticed)
        if waits:
            return self._stand(held, Verdict.DRIFT, reading, waits)
        now_s = time.monotonic()
        held_back = noticed is Noticed.RELOAD and held.contest.is_held(now_s)
        if held_back or (noticed not in _UNCONTESTED and not held.contest.allows_heal(now_s, self.rule)):
            return self._stand(held, Verdict.CONTESTED, reading, held.contest.describe())
        return self._heal(held, reading, noticed)

    def _stand(
        self, held: Held, verdict: Verdict, reading: Reading, reason: str, action: Action = Action.LEFT
    ) -> Drift | None:
        """Leave it as it is; a drift only if that is news."""
        known = held.verdict is verdict and (verdict is Verdict.CONTESTED or held.reading == reading)
        held.conclude(verdict, reading, reason)
        if known or reading.value == held.tunable.wanted:
            return None
        return self._drift(held, reading, action, reason)

    def _drift(self, held: Held, reading: Reading, action: Action, reason: str = "") -> Drift:
        tunable = held.tunable
        return Drift(
            tunable=tunable.id, wanted=tunable.wanted, found=reading.value, action=action, reason=reason
        )

    # -- writing one tunable ---------------------------------------------------------------------------------

    def _heal(self, held: Held, found: Reading, noticed: Noticed) -> Drift | None:
        tunable = held.tunable
        wanted = tunable.wanted
        action = Action.APPLIED if noticed in _UNCONTESTED else Action.HEALED
        if wanted is None:
            return None
        try:
            if not self._secure(held, found):
                self._write(held, wanted)
        except StoreError as error:
            reason = f"not written: {error.message}"
            return self._refuse(held, found, Verdict.FAILED, reason)
        except OSError as error:
            if tunable.attribute.read() == found:
                self.originals.withdraw(held.key)
            error = add_lockdown(self.root, error)
            reason = describe_error(error, f"write {wanted} to {tunable.attribute.location}")
            return self._refuse(held, found, verdict_of(error), reason)
        if action is Action.HEALED:  # also when the kernel keeps another value: a rival may be behind that
            held.contest.count_heal(time.monotonic())
        if tunable.attribute.holds(wanted):
            return self._healed(held, found, wanted, action)
        return self._kernel_keeps(held, found)

    def _healed(self, held: Held, found: Reading, wanted: Value, action: Action) -> Drift:
        self.originals.settle(held.key, wanted)
        held.heals += action is Action.HEALED
        held.version += 1
        held.conclude(Verdict.OK, Reading(ReadingKind.VALUE, wanted))
        self._arm(held)
        return self._drift(held, found, action)

    def _arm(self, held: Held) -> None:
        """Let the next foreign write be parried, if nothing speaks against that."""
        tunable = held.tunable
        wanted = tunable.wanted
        ready = (
            held.policy is Policy.ENFORCE
            and tunable.attribute.writable
            and not tunable.disruptive
            and held.contest.has_room(self.rule)
            and self.originals.covers(held.key, wanted, wanted)
            and self.marks.find_pause(tunable.area, tunable.id) is None
        )
        held.armed = encode(wanted) if ready and wanted is not None else None

    def _write(self, held: Held, wanted: Value) -> None:
        """Write and read back; once more if it did not hold, for a rival may have written in between."""
        for _ in range(_WRITE_TRIES):
            held.tunable.attribute.write(wanted)
            if held.tunable.attribute.holds(wanted):
                return

    def _secure(self, held: Held, found: Reading) -> bool:
        """Put the original on disk, making a planned directory in between. True if it holds already then.

        Raises:
            StoreError: it could not be put on disk.
            OSError: the directory could not be made, or its attribute not be read: no original, no write.
        """
        attribute, wanted = held.tunable.attribute, held.tunable.wanted
        is_planned = bool(attribute.preparation())
        if self.originals.covers(held.key, wanted, found.value):
            if is_planned:  # somebody removed the directory; the value may have outlived it
                attribute.prepare()
            return is_planned and wanted is not None and attribute.holds(wanted)
        if not is_planned:
            self.originals.record([self._original(held, found.value)])
            return False
        self.originals.record([self._original(held, None)])
        attribute.prepare()
        reading = attribute.read()
        if reading.kind is not ReadingKind.VALUE:
            raise OSError(errno.EIO, f"not written, its original cannot be read: {reading.reason}")
        self.originals.record([self._original(held, reading.value)])
        return reading.value == wanted

    def _original(self, held: Held, value: Value | None) -> Original:
        attribute, wanted = held.tunable.attribute, held.tunable.wanted
        return Original(
            id=held.tunable.id,
            boot_id=self.originals.boot_id,
            path=attribute.identity[0],
            instance=attribute.identity[1],
            kind=attribute.kind,
            location=attribute.location,
            makes=attribute.makes if attribute.preparation() or value is None else "",
            value=value,
            ours=() if wanted is None else (wanted,),
            at=timestamp(),
        )

    def _kernel_keeps(self, held: Held, found: Reading) -> Drift | None:
        back = held.tunable.attribute.read()
        if back.kind is not ReadingKind.VALUE or back.value is None:
            held.conclude(_WITHOUT_VALUE[back.kind], back, back.reason)
            return self._drift(held, found, Action.REFUSED, back.reason)
        if back.value == held.tunable.wanted:  # a rival wrote last, and wrote what is wanted
            held.conclude(Verdict.OK, back)
            return self._drift(held, found, Action.HEALED)
        self.originals.settle(held.key, back.value)
        reason = f"wrote {held.tunable.wanted}, kernel keeps {back.value}"
        held.refused = (held.tunable.wanted, back.value, Verdict.BLOCKED, reason)
        return self._conclude_refusal(held, replace(back), found, Verdict.BLOCKED, reason)

    def _refuse(self, held: Held, found: Reading, verdict: Verdict, reason: str) -> Drift | None:
        if verdict is Verdict.BLOCKED:
            held.refused = (held.tunable.wanted, found.value, verdict, reason)
        return self._conclude_refusal(held, found, found, verdict, reason)

    def _conclude_refusal(
        self, held: Held, now: Reading, found: Reading, verdict: Verdict, reason: str
    ) -> Drift | None:
        news = held.conclude(verdict, now, reason)
        return self._drift(held, found, Action.REFUSED, reason) if news else None


def _waits(tunable: Tunable, noticed: Noticed) -> str:
    """Why a value that differs is not written now; empty if it may be. A request writes it all the same."""
    if not tunable.disruptive or noticed is Noticed.REQUEST:
        return ""
    if tunable.traffic is None:
        says = "" if noticed in _UNCONTESTED else "writing it disturbs traffic: done at start"
    else:
        running = tunable.traffic.running()
        says = running and f"not written while it would disturb traffic: {running}"
    return says and f"{says}; `sparktune apply {tunable.id}` writes it all the same"


def _plan(held: Held) -> PlannedWrite | None:
    """The write that a tunable needs now."""
    tunable = held.tunable
    if held.policy is not Policy.ENFORCE or tunable.is_check or tunable.wanted is None or tunable.yields:
        return None
    reading = tunable.attribute.read()
    if reading.kind is not ReadingKind.VALUE or reading.value == tunable.wanted:
        return None
    return PlannedWrite(held=held, found=reading.value, before=tunable.attribute.preparation())
