"""The fabric's document from what the engine concluded: joins what was found with the verdicts about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sparktune.fabric.report import FabricFinding, FabricReport, Judged, report
from sparktune.model import Verdict
from sparktune.remedy import remedy_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sparktune.held import Held
    from sparktune.snapshot import VerdictName
    from sparktune.tuner import Tuner

AREA = "roce"


def build_fabric(tuner: Tuner, *, published: Sequence[Mapping[str, Any]] = ()) -> FabricReport:
    """The document of `/fabric` as things stand.

    Args:
        tuner: what was discovered and judged.
        published: tunables as a daemon published them, for what one look alone cannot judge: growth.
    """
    told = {str(one.get("id")): one for one in published}
    judged = [
        _judge(held, told.get(held.tunable.id, {}))
        for held in tuner.engine.held.values()
        if held.tunable.area == AREA and not held.left
    ]
    return report(tuner.fabric(), judged)


def _judge(held: Held, told: Mapping[str, Any]) -> Judged:
    tunable = held.tunable
    if held.verdict is Verdict.ABSENT and tunable.is_check and told.get("verdict"):
        finding = FabricFinding(
            id=tunable.id,
            verdict=cast("VerdictName", told["verdict"]),
            wanted=told.get("wanted"),
            actual=told.get("actual"),
            reason=str(told.get("reason", "")),
            do=str(told.get("do", "")) or tunable.do,
        )
    else:
        finding = FabricFinding(
            id=tunable.id,
            verdict=held.verdict.value,
            wanted=tunable.wanted,
            actual=held.actual,
            reason=held.reason,
            do="" if held.verdict is Verdict.OK else remedy_for(held),
        )
    return Judged(device=tunable.device, finding=finding)
