"""Turns the engine's state into the published documents. Says what was concluded; concludes nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sparktune.frozen import frozen
from sparktune.marks import EVERYTHING
from sparktune.model import HostState, Policy, ReadingKind, Verdict
from sparktune.published import encode, timestamp
from sparktune.remedy import remedy_for
from sparktune.settings import flatten
from sparktune.snapshot import (
    NOT_ADVISED,
    AdviceSummary,
    AreaSummary,
    Checked,
    ConfigReport,
    ConfigSummary,
    ConfigValue,
    Daemon,
    DriftReport,
    DriftSummary,
    HostSummary,
    NotHolding,
    Notice,
    Status,
    TunableState,
)
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sparktune.held import Held
    from sparktune.settings import Effective
    from sparktune.snapshot import Conflicts
    from sparktune.tuner import Tuner

MOST_NOT_HOLDING = 20
MOST_DRIFTS = 5
MOST_CONFLICTS = 3

_WEIGHT = (
    Verdict.FAILED,
    Verdict.BLOCKED,
    Verdict.CONTESTED,
    Verdict.DRIFT,
    Verdict.PAUSED,
    Verdict.OK,
    Verdict.UNMANAGED,
    Verdict.ABSENT,
)
_SPARE = frozenset({Verdict.ABSENT, Verdict.UNMANAGED})


@frozen
class Context:
    """What the status says beyond the tunables.

    Attributes:
        daemon: who publishes.
        drifts: the latest episodes, newest first.
        on_disk: whether the configuration files still are what was loaded.
        warnings: about the host as a whole.
        starting: nothing has been verified yet.
        unsupported: why this machine is not tuned; empty if it is.
        advice: what the advisor has to say.
    """

    daemon: Daemon
    drifts: Sequence[DriftSummary]
    on_disk: bool
    warnings: tuple[Notice, ...] = ()
    starting: bool = False
    unsupported: str = ""
    advice: AdviceSummary = NOT_ADVISED


def holds(held: Held) -> bool:
    """Whether a tunable belongs in no list of what does not hold."""
    if held.verdict is Verdict.PAUSED:
        return held.actual == held.tunable.wanted
    return held.verdict is Verdict.OK or held.verdict in _SPARE


def count(states: Iterable[Held]) -> Checked:
    """How many stand where."""
    states = list(states)
    verdicts = Counter(held.verdict for held in states)
    there = [held for held in states if held.verdict not in _SPARE]
    read = sum(held.reading.kind is ReadingKind.VALUE for held in there)
    return Checked(
        hold=verdicts[Verdict.OK] + sum(held.verdict is Verdict.PAUSED and holds(held) for held in states),
        of=len(there),
        read=read,
        drift=verdicts[Verdict.DRIFT],
        blocked=verdicts[Verdict.BLOCKED],
        contested=verdicts[Verdict.CONTESTED],
        failed=verdicts[Verdict.FAILED],
        absent=verdicts[Verdict.ABSENT],
        paused=verdicts[Verdict.PAUSED],
        unmanaged=verdicts[Verdict.UNMANAGED],
    )


def judge_host(checked: Checked, *, error: str | None, paused: bool) -> HostState:
    """The state of the host from the counts. Nothing checked is degraded, never ok."""
    if checked.blocked or checked.contested or checked.failed or error:
        return HostState.DEGRADED
    if checked.drift:
        return HostState.DRIFT
    if paused:
        return HostState.PAUSED
    return HostState.OK if checked.read else HostState.DEGRADED


def build_status(tuner: Tuner, context: Context) -> Status:
    """The document of `/status`."""
    states = list(tuner.engine.held.values())
    checked = count(states)
    pauses = tuner.engine.marks.pauses()
    bad = [held for held in states if not holds(held)]
    areas = {area.name: _summarise(tuner, area.name) for area in AREAS if area.name in tuner.areas}
    state = judge_host(checked, error=tuner.effective.error, paused=bool(pauses) or tuner.switched_off)
    if context.starting:
        state = HostState.STARTING
    if context.unsupported:
        state = HostState.UNSUPPORTED
    summary = context.unsupported or _sum_up(tuner, checked, bad)
    whole = [pause.until() for pause in pauses if pause.target == EVERYTHING]
    return Status(
        state=state.value,
        summary=summary,
        host=HostSummary(name=tuner.host.name, model=tuner.host.model, kernel=tuner.host.kernel),
        checked=checked,
        mode=tuner.settings.mode,
        paused_until=timestamp(max(whole)) if whole else None,
        config=summarise_config(tuner.effective, on_disk=context.on_disk),
        areas=areas,
        not_holding=tuple(_not_holding(held) for held in bad[:MOST_NOT_HOLDING]),
        drifts=tuple(context.drifts[:MOST_DRIFTS]),
        warnings=() if context.unsupported else (*context.warnings, *_warnings(tuner)),
        advice=context.advice,
        daemon=context.daemon,
    )


def summarise_config(effective: Effective, *, on_disk: bool) -> ConfigSummary:
    """The `config` part of `/status`."""
    return ConfigSummary(
        sha256=effective.sha256, on_disk="same" if on_disk else "changed", error=effective.error
    )


def build_drift(tuner: Tuner, episodes: Sequence[DriftSummary]) -> DriftReport:
    """The document of `/drift`."""
    bad = [held for held in tuner.engine.held.values() if not holds(held)]
    return DriftReport(not_holding=tuple(_not_holding(held) for held in bad), episodes=tuple(episodes))


def build_config(effective: Effective, *, on_disk: bool) -> ConfigReport:
    """The document of `/config`."""
    values = {}
    for key, value in flatten(effective.settings).items():
        values[key] = ConfigValue(value=value, layer=effective.origins.get(key, "default"))
    summary = summarise_config(effective, on_disk=on_disk)
    return ConfigReport(
        sha256=summary.sha256,
        on_disk=summary.on_disk,
        error=summary.error,
        files=tuple(str(stamp.path) for stamp in effective.files),
        values=values,
    )


def _summarise(tuner: Tuner, name: str) -> AreaSummary:
    area = next(area for area in AREAS if area.name == name)
    states = [held for held in tuner.engine.held.values() if held.tunable.area == name]
    policy = tuner.policy(area)
    if policy is Policy.OFF:
        why = "sparktune=off on the kernel command line" if tuner.switched_off else "policy is off"
        return AreaSummary(state="unmanaged", says=f"{why}: left alone")
    present = [held for held in states if held.verdict is not Verdict.ABSENT]
    if not present:
        reasons = [held.reason for held in states]
        says = tuner.areas[name].absent or (reasons[0] if reasons else "nothing found")
        return AreaSummary(state="absent", says=says)
    worst = min((held.verdict for held in present), key=_WEIGHT.index)
    ours = [held.verdict for held in present if not held.tunable.is_check]
    if ours and all(verdict is Verdict.UNMANAGED for verdict in ours):
        worst = Verdict.UNMANAGED
    if worst is Verdict.UNMANAGED:
        return _area(worst, f"{present[0].reason}; `sparktune apply` takes it back")
    says = area.say(tuner.host, tuner.settings, states)
    bad = sum(not holds(held) for held in present)
    if bad:
        says += f"; {bad} of {len(present)} do not hold"
    if worst is Verdict.PAUSED:
        says += " (healing is paused)"
    if policy is Policy.REPORT:
        says += " (reported, not healed)"
    return _area(worst, says)


def _area(verdict: Verdict, says: str) -> AreaSummary:
    return AreaSummary(state=verdict.value, says=says)


def _sum_up(tuner: Tuner, checked: Checked, bad: Sequence[Held]) -> str:
    counts = f"checked {checked.read} of {checked.of}"
    if tuner.switched_off:
        return f"off: sparktune=off on the kernel command line; {counts}"
    if not checked.read and checked.unmanaged:
        return f"nothing is held: {checked.unmanaged} restored or off ({counts}); sparktune apply"
    if not checked.read:
        return f"nothing could be checked ({counts}); see areas"
    said = f"{checked.hold} of {checked.of} hold; {counts}"
    if checked.paused:
        said += f"; {checked.paused} paused"
    if bad:
        first = bad[0]
        said += (
            f"; {first.tunable.id} is {first.actual}, wanted {first.tunable.wanted} ({first.verdict.value})"
        )
        said += f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    if tuner.effective.error:
        said += "; the configuration on disk is invalid"
    return said


def _not_holding(held: Held) -> NotHolding:
    return NotHolding(
        id=held.tunable.id,
        wanted=held.tunable.wanted,
        actual=held.actual,
        verdict=held.verdict.value,
        reason=held.reason,
        since=held.since or None,
        owner=held.tunable.owner or None,
        do=remedy_for(held),
    )


def _warnings(tuner: Tuner) -> Iterable[Notice]:
    for note in tuner.notes():
        yield Notice(
            area=note.area, level="warning" if note.level == "warning" else "info", says=note.says, do=note.do
        )


def warn_of_conflicts(conflicts: Conflicts) -> Iterable[Notice]:
    """The conflicts that do not agree with what is held: the state is not theirs to change, but say so."""
    differing = [one for one in conflicts.found if not one.agrees]
    for one in differing[:MOST_CONFLICTS]:
        says = f"{one.who} ({one.file}:{one.line}) {one.says}"
        yield Notice(area=one.area, level="warning", says=says, do=one.do)
    more = len(differing) - MOST_CONFLICTS
    if more > 0:
        says = f"{more} more conflicts with other tuners"
        yield Notice(area="", level="warning", says=says, do="sparktune detect shows them all")


def tunable_state(tuner: Tuner, held: Held, *, verified_at: str | None) -> TunableState:
    """One entry of `/tunables`."""
    tunable = held.tunable
    original = tuner.engine.originals.find(held.key)
    return TunableState(
        id=tunable.id,
        area=tunable.area,
        device=tunable.device,
        attribute=tunable.attribute.location,
        check=tunable.is_check,
        policy=held.policy.value,
        wanted=tunable.wanted,
        actual=held.actual,
        original=None if original is None else original.value,
        unit=tunable.unit,
        verdict=held.verdict.value,
        reason=held.reason,
        since=held.since or None,
        last_drift=held.last_drift,
        heals=held.heals,
        disruptive=tunable.disruptive,
        why=tunable.why,
        source=tunable.source,
        risk=tunable.risk,
        key=tunable.key,
        layer=held.layer,
        owner=tunable.owner or None,
        do="" if holds(held) else remedy_for(held),
        verified_at=verified_at,
    )


class TunablesText:
    """The text of `/tunables`, put together from parts that are only made anew when they changed."""

    def __init__(self) -> None:
        """Start without parts."""
        self._parts: dict[str, tuple[Held, int, str]] = {}
        self._shown: list[str] = []
        self._instance = ""

    def compose(self, tuner: Tuner, daemon: Daemon) -> str:
        """The document's text as things stand."""
        held = tuner.engine.held
        self._instance = daemon.instance
        self._shown = [self._part(tuner, one) for one in held.values()]
        if len(self._parts) > 2 * len(held) + 64:
            self._parts.clear()  # devices that left for good
        return self.stamp(daemon.verified_at)

    def stamp(self, verified_at: str | None) -> str:
        """The same text with another time; costs one join of strings."""
        stamp = "null" if verified_at is None else f'"{verified_at}"'
        body = f"{stamp}\n    }},\n    ".join(self._shown)
        tunables = f"[\n    {body}{stamp}\n    }}\n  ]" if self._shown else "[]"
        return (
            f'{{\n  "instance": "{self._instance}",\n  "verified_at": {stamp},\n  "tunables": {tunables}\n}}'
        )

    def _part(self, tuner: Tuner, held: Held) -> str:
        id_ = held.tunable.id
        known = self._parts.get(id_)
        if known is not None and known[0] is held and known[1] == held.version:
            return known[2]
        state = tunable_state(tuner, held, verified_at=None)
        text = encode(state).removesuffix("null\n}").replace("\n", "\n    ")
        self._parts[id_] = (held, held.version, text)
        return text
