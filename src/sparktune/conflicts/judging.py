"""From a claim to a published conflict: whether it agrees with what is held, and what a person can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.redaction import redact
from sparktune.snapshot import Conflict
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.conflicts.claim import Claim
    from sparktune.conflicts.ours import Ours
    from sparktune.model import Tunable, Value

CONFIGURATION = "/etc/sparktune.toml"
_MOST_TEXT = 200
_MOST_IDS = 8
_MOST_DEVICES = 3


def judge(claim: Claim, ours: Ours, *, show_text: bool) -> Conflict:
    """The conflict of a claim.

    Args:
        claim: who sets what.
        ours: what sparktune holds.
        show_text: whether whoever is told may read the line.
    """
    verdicts = [_agrees(claim, tunable, ours) for tunable in claim.tunables]
    differing = [one for one, agrees in zip(claim.tunables, verdicts, strict=True) if agrees is False]
    agrees = False if differing else (None if None in verdicts or not verdicts else True)
    shown = (differing or claim.tunables)[:1]
    return Conflict(
        who=claim.who,
        unit=claim.unit or None,
        file=plain(claim.file, most=_MOST_TEXT),
        line=claim.line,
        text=plain(redact([claim.text]), most=_MOST_TEXT) if show_text else "",
        area=claim.area,
        attribute=claim.attribute or (shown[0].attribute.location if shown else ""),
        tunables=len(claim.tunables),
        ids=tuple(tunable.id for tunable in claim.tunables[:_MOST_IDS]),
        value=plain(claim.value) or None,
        wanted=shown[0].wanted if shown else None,
        agrees=agrees,
        says=_say(claim, differing, agrees=agrees),
        do=_advise(claim, shown, agrees=agrees),
    )


def _agrees(claim: Claim, tunable: Tunable, ours: Ours) -> bool | None:
    """Whether a claim leaves a tunable at what we want; None where that cannot be said."""
    if claim.sense == "equal":
        return _is_same(claim.value, tunable.wanted)
    if claim.sense == "at least":
        return isinstance(tunable.wanted, int) and tunable.wanted >= int(claim.value)
    if claim.sense == "unknown":
        return None
    latency_us = ours.latency_us(tunable)
    if latency_us is None:
        return None
    limit_us = int(claim.value)
    if claim.sense == "by latency":
        return int(latency_us >= limit_us) == tunable.wanted
    # PM QoS only forbids: what we have off may be on there, the other way round a state of ours is kept out.
    return latency_us <= limit_us or tunable.wanted == 1


def _is_same(value: str, wanted: Value | None) -> bool:
    if isinstance(wanted, int):
        try:
            return int(value, 0) == wanted
        except ValueError:  # no number, or written as 0755
            return value.strip().lstrip("0") == str(wanted)
    return value.strip() == wanted


def _say(claim: Claim, differing: Sequence[Tunable], *, agrees: bool | None) -> str:
    """What the claim does, beside what sparktune does, in one sentence."""
    if claim.says:
        return claim.says
    about = differing or claim.tunables
    wanted = f"{about[0].wanted} {about[0].unit}".strip()
    what = f"{about[0].attribute.location.rpartition('/')[2]} of {_list_devices(about)}"
    if claim.sense == "by latency":
        ours = "as sparktune has it" if agrees else "sparktune has them otherwise"
        return f"disables the idle states of {claim.value} µs and more and enables the others, {ours}"
    if claim.sense == "latency limit":
        ours = "some of which sparktune leaves on" if agrees is False else "which sparktune has off as well"
        return f"keeps out idle states above {claim.value} µs by PM QoS, {ours}"
    if claim.sense == "unknown":
        return f"sets {what} to something that only running it would tell; sparktune holds {wanted}"
    value = f"{claim.value} {about[0].unit}".strip()
    if claim.sense == "at least":
        ours = f"sparktune holds {wanted}" + (", which it leaves alone" if agrees else "")
        return f"raises {what} to {value} where it is lower; {ours}"
    return f"sets {what} to {value}, " + ("as sparktune does" if agrees else f"sparktune holds {wanted}")


def _list_devices(tunables: Sequence[Tunable]) -> str:
    devices = list(dict.fromkeys(tunable.device for tunable in tunables))
    listed = ", ".join(devices[:_MOST_DEVICES])
    more = len(devices) - _MOST_DEVICES
    return f"{listed} and {more} more" if more > 0 else listed


def _advise(claim: Claim, shown: Sequence[Tunable], *, agrees: bool | None) -> str:
    if agrees:
        return "nothing now; but who changes one of the two has to change the other"
    key = shown[0].key if shown else ""
    ours = f'set policy = "off" in [{claim.area}]'
    if key and claim.sense == "equal":
        ours = f'set {key} to the same, or policy = "off" in [{claim.area}],'
    return f"let one of the two decide: {claim.remove}; or {ours} in {CONFIGURATION}"
