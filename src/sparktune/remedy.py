"""What a person can do about a tunable that does not hold, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.model import Policy, Verdict

if TYPE_CHECKING:
    from sparktune.held import Held


def remedy_for(held: Held) -> str:
    """The remedy for a tunable's verdict; the tunable's own word goes first."""
    tunable = held.tunable
    if tunable.do:
        return tunable.do
    remedy = _REMEDIES.get(held.verdict, "")
    if held.verdict is Verdict.DRIFT and held.policy is Policy.REPORT:
        remedy = _REPORTED
    if held.verdict is Verdict.BLOCKED and _LOCKED in held.reason:
        remedy = _LOCKED_DOWN
    rivals = held.contest.rivals or "whoever writes it"
    return remedy.format(id=tunable.id, area=tunable.area, key=tunable.key, rivals=rivals)


_LOCKED = "lockdown"
_LOCKED_DOWN = (
    "the kernel's lockdown refuses it to everybody, root too: it ends with Secure Boot switched off in the "
    "firmware's setup; or leave {key} at its default"
)
_REPORTED = 'reported only (mode or policy is "report"); policy = "enforce" in [{area}] heals it'
_REMEDIES = {
    Verdict.CONTESTED: 'stop {rivals}, then: sparktune apply {id}; or set policy = "report" in [{area}]',
    Verdict.DRIFT: "sparktune apply {id}",
    Verdict.BLOCKED: "set {key} to a value the kernel takes, then: sparktune apply {id}",
    Verdict.FAILED: "see the reason; the daemon tries again at each sweep: journalctl -u sparktune",
    Verdict.PAUSED: "sparktune resume {id}",
}
