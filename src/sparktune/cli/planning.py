"""What `apply` would do on this host, and what it would leave alone and why: as data. Writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sparktune.cli.local import AREA_NAMES, area_notes, choose, is_hidden, is_supported
from sparktune.errors import DaemonNotRunningError
from sparktune.frozen import frozen
from sparktune.model import Note, Noticed, Policy, ReadingKind, Value
from sparktune.published import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.held import Held, PlannedWrite
    from sparktune.places import Places
    from sparktune.tuner import Tuner

_ON_DISK = "on disk"
_TO_COME = "recorded before the write"
_TO_COME_AFTER_MKDIR = "read from the new directory and recorded before the write"
_MADE = "unless the new directory says so already"
_HIDDEN = "not visible: only root may read the originals"


@frozen
class Write:
    """One write that would be done.

    Attributes:
        id: the tunable.
        area: its area.
        file: what would be written to, as the host names it.
        label: what the file stands for, where its name does not say it: `LPI-1, exit latency 42 µs`.
        found: what is there now.
        wanted: what would be written.
        unit: of both.
        before: what has to be made first: `mkdir …`.
        original: what `restore` would put back, as far as it can be seen.
        original_is: `on disk`, `recorded before the write`, or why that is not known.
        ends: what the write would put an end to: a pause, a hold, a restored mark; empty if nothing.
        why, source, risk, key, layer: as in `/tunables`.
        disruptive: it disturbs running traffic.
        disturbs: what runs now and would be disturbed; empty if nothing does, or it cannot be disturbed.
    """

    id: str
    area: str
    file: str
    label: str
    found: Value | None
    wanted: Value | None
    unit: str
    before: tuple[str, ...]
    original: Value | None
    original_is: str
    ends: str
    why: str
    source: str
    risk: str
    key: str
    layer: str
    disruptive: bool
    disturbs: str


@frozen
class Left:
    """Something that is not as wanted, or cannot be read, and would not be written.

    Attributes:
        id: the tunable.
        area: its area.
        found: what is there now; None if it cannot be read.
        wanted: the configured value.
        reason: why it is left alone.
    """

    id: str
    area: str
    found: Value | None
    wanted: Value | None
    reason: str


@frozen
class Plan:
    """Everything `sparktune plan` says.

    Attributes:
        supported: whether the daemon would write anything on this machine at all.
        switched_off: `sparktune=off` is on the kernel command line.
        daemon_runs: whether pauses, holds and rivals are known from a running daemon.
        mode: `enforce` or `report`.
        areas: what was asked for; for each whether it is managed, and what to know about it.
        writes: in the order they would be done.
        left: what differs, or cannot be read, and would not be written.
        holding: how many are as wanted already.
        checks: how many are only ever read.
    """

    supported: bool
    switched_off: bool
    daemon_runs: bool
    mode: str
    areas: dict[str, tuple[Note, ...]]
    writes: tuple[Write, ...]
    left: tuple[Left, ...]
    holding: dict[str, int]
    checks: dict[str, int]

    @property
    def read(self) -> int:
        """How many could be read."""
        readable = sum(item.found is not None for item in self.left)
        return len(self.writes) + sum(self.holding.values()) + readable


def make_plan(tuner: Tuner, places: Places, names: Sequence[str]) -> Plan:
    """Read the host and say what `apply` would write.

    Raises:
        UsageError: nobody knows one of the names.
    """
    chosen = choose(tuner, names)
    planned = {item.held.tunable.id: item for item in tuner.engine.plan([held.tunable.id for held in chosen])}
    if tuner.switched_off:
        planned = {}
    published = _published_verdicts(places)
    hidden = is_hidden(places, "originals.jsonl")
    areas = [name for name in AREA_NAMES if _concerns(name, names, chosen)]
    left, holding, checks = _sort_rest(tuner, [held for held in chosen if held.tunable.id not in planned])
    return Plan(
        supported=is_supported(tuner),
        switched_off=tuner.switched_off,
        daemon_runs=published is not None,
        mode=tuner.settings.mode,
        areas={name: tuple(area_notes(tuner, name)) for name in areas},
        writes=tuple(
            _write(tuner, item, hidden=hidden, published=published or {}) for item in planned.values()
        ),
        left=tuple(left),
        holding=holding,
        checks=checks,
    )


def _concerns(area: str, names: Sequence[str], chosen: Sequence[Held]) -> bool:
    return not names or area in names or any(held.tunable.area == area for held in chosen)


def _published_verdicts(places: Places) -> dict[str, tuple[str, str]] | None:
    """Verdict and reason of each tunable, as the running daemon says; None without one."""
    try:
        if not fetch(places.run_dir, "status").fresh:
            return None
        entries: list[dict[str, Any]] = fetch(places.run_dir, "tunables").data["tunables"]
        return {entry["id"]: (entry["verdict"], entry["reason"]) for entry in entries}
    except (DaemonNotRunningError, KeyError, TypeError):  # none, or another version's: then nothing is known
        return None


def _write(tuner: Tuner, item: PlannedWrite, *, hidden: bool, published: dict[str, tuple[str, str]]) -> Write:
    held, tunable = item.held, item.held.tunable
    original, original_is = _original(tuner, item, hidden=hidden)
    return Write(
        id=tunable.id,
        area=tunable.area,
        file=tunable.attribute.location,
        label=_MADE if item.before else _label(tuner, held),
        found=item.found,
        wanted=tunable.wanted,
        unit=tunable.unit,
        before=item.before,
        original=original,
        original_is=original_is,
        ends=_ends(tuner, held, published),
        why=tunable.why,
        source=tunable.source,
        risk=tunable.risk,
        key=tunable.key,
        layer=held.layer,
        disruptive=tunable.disruptive,
        disturbs=tunable.traffic.running() if tunable.disruptive and tunable.traffic else "",
    )


def _original(tuner: Tuner, item: PlannedWrite, *, hidden: bool) -> tuple[Value | None, str]:
    recorded = tuner.engine.originals.find(item.held.key)
    if recorded is not None and recorded.value is not None:
        return recorded.value, _ON_DISK
    if hidden:
        return None, _HIDDEN
    return (None, _TO_COME_AFTER_MKDIR) if item.before else (item.found, _TO_COME)


def _ends(tuner: Tuner, held: Held, published: dict[str, tuple[str, str]]) -> str:
    """What stands in the daemon's way now and would not stand in the way of `apply`."""
    tunable, marks = held.tunable, tuner.engine.marks
    restored = marks.find_restored(tunable.id)
    if restored is not None:
        return f"restored by {restored.by} at {restored.at}"
    pause = marks.find_pause(tunable.area, tunable.id)
    if pause is not None:
        return f"paused by {pause.by}"
    verdict, reason = published.get(tunable.id, ("", ""))
    return reason or verdict if verdict in {"contested", "paused", "unmanaged"} else ""


def _label(tuner: Tuner, held: Held) -> str:
    """What a file stands for where its name does not say it: which idle state, which disk."""
    root, location = tuner.host.root, held.tunable.attribute.location
    if held.tunable.area == "cpuidle":
        state = location.removesuffix("/disable")
        name, latency = root.read(f"{state}/name"), root.read(f"{state}/latency")
        return f"{name or 'unnamed'}, exit latency {latency or 'unknown'} µs"
    if held.tunable.area == "nvme":
        disk = location.removesuffix("/queue/read_ahead_kb")
        return root.read(f"{disk}/dm/name") or root.read(f"{disk}/device/model") or ""
    return ""


def _sort_rest(tuner: Tuner, rest: Sequence[Held]) -> tuple[list[Left], dict[str, int], dict[str, int]]:
    """What is left alone and why, how many hold, how many are checks; the last two by area."""
    left: list[Left] = []
    holding: dict[str, int] = {}
    checks: dict[str, int] = {}
    for held in rest:
        tunable = held.tunable
        if tunable.is_check:
            checks[tunable.area] = checks.get(tunable.area, 0) + 1
            continue
        reading = tunable.attribute.read()
        if reading.kind is ReadingKind.VALUE and reading.value == tunable.wanted:
            holding[tunable.area] = holding.get(tunable.area, 0) + 1
            continue
        if reading.kind is not ReadingKind.VALUE:  # for the area to remark on it
            tuner.engine.look(held, Noticed.REQUEST, heal=False)
        reason = reading.reason or _reason(tuner, held)
        left.append(
            Left(id=tunable.id, area=tunable.area, found=reading.value, wanted=tunable.wanted, reason=reason)
        )
    return left, holding, checks


def _reason(tuner: Tuner, held: Held) -> str:
    if tuner.switched_off:
        return "sparktune=off on the kernel command line"
    if held.tunable.yields:
        return held.tunable.yields
    if held.policy is Policy.OFF:
        return f'policy = "off" in [{held.tunable.area}]'
    if tuner.settings.mode == "report":
        return 'mode = "report": reported, not written'
    if held.policy is Policy.REPORT:
        return f'policy = "report" in [{held.tunable.area}]: reported, not written'
    return "it changed while this plan was made"
