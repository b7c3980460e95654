"""The `cpuidle` area: which idle states a CPU may enter, by exit latency as `cpupower idle-set -D` decides.

One tunable a `state*/disable`, and for each CPU one check of the effect: no disabled state is entered.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sparktune.cpulist import parse_cpu_list
from sparktune.cpus import format_cpu_list
from sparktune.errors import UsageError
from sparktune.kernel.attribute import FileAttribute, FixedAttribute
from sparktune.kernel.connectx import has_carrier
from sparktune.kernel.identity import identify_directory
from sparktune.kernel.idle import EnteredStates, qos_holders, qos_latency_us
from sparktune.model import Note, Policy, Reading, ReadingKind, Tunable
from sparktune.tunables.area import Area, Discovery, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sparktune.hardware import Host
    from sparktune.kernel.root import Root
    from sparktune.settings import Settings

AREA = "cpuidle"

_CPUS = "/sys/devices/system/cpu"
_STATE = re.compile(r"state([0-9]{1,3})")
_LATENCY = re.compile(r"[0-9]{1,10}")
_WHY = "A CPU in a deep idle state answers late: each wake-up of a decoding or network thread pays for it."
_SOURCE = "kernel: Documentation/admin-guide/pm/cpuidle.rst; rule: cpupower-idle-set(1), option -D"
_RISK = "Idle CPUs draw more power and get warmer; how many watts on a GB10 has not been published."
_CHECK_WHY = "Writing `disable` is not the effect: the kernel's own counter says whether a state is entered."
_CHECK_SOURCE = "kernel: Documentation/ABI/testing/sysfs-devices-system-cpu, state*/usage"
_CHECK_DO = "look for another cpuidle driver or governor: cat /sys/devices/system/cpu/cpuidle/current_*"
_NO_LIMIT_US = 2_000_000_000


def discover(host: Host, settings: Settings, device: str | None = None) -> Discovery:
    """One tunable for each idle state of each selected CPU, and one check of the effect for each CPU."""
    wanted = settings.cpuidle
    reason = _absence(host, settings)
    if reason:
        return Discovery(tunables=(), absent=reason)
    online = _online(host.root)
    chosen, notes = _chosen(host, wanted.cpus)
    tunables: list[Tunable] = []
    for cpu in chosen:
        if device is None or device == f"cpu{cpu}":
            tunables += _of_cpu(host.root, cpu, int(wanted.disable_latency_us), online=cpu in online)
    notes += _meaning(host.root, chosen, int(wanted.disable_latency_us))
    absent = "" if tunables else f"no CPU here is one of {wanted.cpus}, or none of them has idle states"
    return Discovery(tunables=tuple(tunables), absent=absent, notes=tuple(notes))


def _absence(host: Host, settings: Settings) -> str:
    driver = host.root.read(f"{_CPUS}/cpuidle/current_driver")
    if driver in (None, "", "none"):
        return "this kernel has no cpuidle driver loaded"
    if settings.cpuidle.disable_latency_us == "off":
        return 'idle states are left alone (disable_latency_us = "off")'
    if settings.cpuidle.when == "cluster" and not has_carrier(host.root):
        return 'no ConnectX port has a carrier (when = "cluster"): idle states are left alone'
    return ""


def _chosen(host: Host, selector: str) -> tuple[list[int], list[Note]]:
    if selector == "all":
        return list(host.cpus), []
    if selector in ("performance", "efficiency"):
        chosen = [cpu for cluster in host.clusters if cluster.kind == selector for cpu in cluster.cpus]
        return sorted(chosen), []
    asked = parse_cpu_list(selector)
    missing = sorted(set(asked) - set(host.cpus))
    notes = []
    if missing:
        says = f'cpus = "{selector}" names CPUs this machine lacks: {format_cpu_list(missing)}'
        notes = [Note(area=AREA, level="warning", says=says, do=f"it has {format_cpu_list(host.cpus)}")]
    return sorted(set(asked) & set(host.cpus)), notes


def _online(root: Root) -> set[int]:
    text = root.read(f"{_CPUS}/online")
    try:
        return set(parse_cpu_list(text or ""))
    except UsageError:  # unreadable: the attributes themselves will tell
        return {int(name[3:]) for name in root.names(_CPUS) if re.fullmatch(r"cpu[0-9]{1,6}", name)}


def states_of(root: Root, cpu: int) -> list[str]:
    """The names of a CPU's idle state directories, in the kernel's order."""
    found = [match for name in root.names(f"{_CPUS}/cpu{cpu}/cpuidle") if (match := _STATE.fullmatch(name))]
    return [match[0] for match in sorted(found, key=lambda match: int(match[1]))]


def _of_cpu(root: Root, cpu: int, limit_us: int, *, online: bool) -> Iterator[Tunable]:
    base = f"{_CPUS}/cpu{cpu}/cpuidle"
    identity = identify_directory(root, f"{_CPUS}/cpu{cpu}")
    disabled: list[tuple[FileAttribute, str]] = []
    states = states_of(root, cpu)
    for state in states:
        latency = root.read(f"{base}/{state}/latency") or ""
        name = f"{base}/{state}/disable"
        if _LATENCY.fullmatch(latency) is None:
            yield _unknown(cpu, state, name, f"no latency in {base}/{state}: {latency[:40]!r}")
        elif not online:
            yield _unknown(cpu, state, name, f"cpu{cpu} is offline", kind=ReadingKind.ABSENT)
        else:
            attribute = FileAttribute(root, name, identity=identity)
            wanted = int(int(latency) >= limit_us)
            if wanted:
                disabled.append((attribute, f"{base}/{state}/usage"))
            yield _disable(cpu, state, attribute, wanted)
    # With every state disabled the governors use state 0 all the same: menu_select, teo_select.
    deeper = disabled[1:] if len(disabled) == len(states) else disabled
    if deeper:
        yield _effect(cpu, EnteredStates(root, f"{base}/state*/usage", identity, deeper))


def _disable(cpu: int, state: str, attribute: FileAttribute | FixedAttribute, wanted: int | None) -> Tunable:
    return Tunable(
        id=f"{AREA}.cpu{cpu}.{state}.disable",
        area=AREA,
        device=f"cpu{cpu}",
        attribute=attribute,
        wanted=wanted,
        why=_WHY,
        source=_SOURCE,
        risk=_RISK if wanted else "",
        key="cpuidle.disable_latency_us",
    )


def _unknown(cpu: int, state: str, name: str, reason: str, kind: ReadingKind = ReadingKind.FAILED) -> Tunable:
    return _disable(cpu, state, FixedAttribute(name, Reading(kind, reason=reason)), None)


def _effect(cpu: int, attribute: EnteredStates) -> Tunable:
    return Tunable(
        id=f"{AREA}.cpu{cpu}.entered",
        area=AREA,
        device=f"cpu{cpu}",
        attribute=attribute,
        wanted=0,
        unit="entries since the last sweep",
        why=_CHECK_WHY,
        source=_CHECK_SOURCE,
        key="cpuidle.disable_latency_us",
        do=_CHECK_DO,
    )


def _meaning(root: Root, chosen: Sequence[int], limit_us: int) -> list[Note]:
    """What it means here that every state in which a CPU rests is disabled."""
    states = _latencies(root, chosen[0]) if chosen else {}
    resting = {name: latency for name, latency in states.items() if name != "POLL"}
    if not states or any(latency < limit_us for latency in resting.values()):
        return []
    shallowest = next(iter(states))
    if shallowest != "POLL":
        says = (
            f"with this setting all idle states are disabled; the governor then uses {shallowest} "
            "all the same (the CPU waits for an interrupt, its clock stopped). What it costs in watts is "
            "not known"
        )
        return [Note(area=AREA, level="info", says=says)]
    says = (
        "with this setting all idle states but POLL are disabled: idle CPUs spin at full power and get hot "
        "(92 °C was seen). "
        "What it costs in watts is not known"
    )
    do = ""
    if resting:
        name = min(resting, key=resting.__getitem__)
        do = f"cpuidle.disable_latency_us = {resting[name] + 1} or more keeps {name}, the first that rests"
    return [Note(area=AREA, level="warning", says=says, do=do)]


def _latencies(root: Root, cpu: int) -> dict[str, int]:
    """The exit latencies in µs by the names of a CPU's idle states, as far as readable."""
    found = {}
    for state in states_of(root, cpu):
        base = f"{_CPUS}/cpu{cpu}/cpuidle/{state}"
        latency = root.read(f"{base}/latency") or ""
        if _LATENCY.fullmatch(latency):
            found[root.read(f"{base}/name") or state] = int(latency)
    return found


def observe(host: Host, settings: Settings) -> tuple[Note, ...]:
    """PM QoS requests of others: they forbid idle states as well, and nobody sees them in `disable`."""
    if settings.cpuidle.policy is Policy.OFF:
        return ()
    notes = []
    latency_us = qos_latency_us(host.root)
    if latency_us is not None and latency_us < _NO_LIMIT_US:
        holders = qos_holders(host.root)
        says = f"a PM QoS request forbids idle states above {latency_us} µs while {holders} keeps it open"
        notes.append(Note(area=AREA, level="info", says=says))
    limited = [cpu for cpu in host.cpus if _resume_limit(host.root, cpu)]
    if limited:
        says = f"pm_qos_resume_latency_us limits idle states on CPUs {format_cpu_list(limited)}"
        notes.append(Note(area=AREA, level="info", says=says, do="it holds beside sparktune's own setting"))
    return tuple(notes)


def _resume_limit(root: Root, cpu: int) -> bool:
    """0 means no limit; `n/a` means no latency is tolerated at all."""
    return root.read(f"{_CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us") not in (None, "", "0")


def inventory(host: Host, settings: Settings) -> object:
    """Which CPUs are online, which driver runs, and the carriers where they decide."""
    carrier = has_carrier(host.root) if settings.cpuidle.when == "cluster" else None
    driver = host.root.read_bytes(f"{_CPUS}/cpuidle/current_driver")
    return host.root.read_bytes(f"{_CPUS}/online"), driver, carrier


def say(host: Host, settings: Settings, views: Sequence[View]) -> str:
    """`LPI-0 only on 20 CPUs; deeper states not entered in the last 10 s`."""
    settings_ok = [
        view
        for view in views
        if view.reading.kind is ReadingKind.VALUE
        and view.reading.value == view.tunable.wanted
        and not view.tunable.is_check
    ]
    cpus = {view.tunable.device for view in settings_ok}
    if not cpus:
        return "no idle state is held"
    first = min(cpus, key=lambda name: int(name[3:]))
    allowed = [view for view in settings_ok if view.tunable.device == first and view.tunable.wanted == 0]
    names = [_state_name(host.root, view) for view in allowed] or [_first_name(host.root, first)]
    checks = [view for view in views if view.tunable.is_check]
    judged = [view for view in checks if view.reading.kind is ReadingKind.VALUE]
    said = f"{', '.join(names)} only on {len(cpus)} CPUs"
    if not judged:
        return said
    entered = sum(view.reading.value != view.tunable.wanted for view in judged)
    if entered:
        return f"{said}; yet disabled states were entered on {entered} CPUs"
    return f"{said}; deeper states not entered in the last {settings.sweep:g} s"


def _state_name(root: Root, view: View) -> str:
    return root.read(view.tunable.attribute.location.replace("/disable", "/name")) or "an unnamed state"


def _first_name(root: Root, device: str) -> str:
    return root.read(f"{_CPUS}/{device}/cpuidle/state0/name") or "state 0"


def policy(settings: Settings) -> Policy:
    """The configured policy."""
    return settings.cpuidle.policy


AREA_CPUIDLE = Area(
    name=AREA,
    subsystems=("cpu",),
    policy=policy,
    discover=discover,
    observe=observe,
    inventory=inventory,
    say=say,
)
