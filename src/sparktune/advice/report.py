"""Turns engines and findings into the published document. Says what was concluded; concludes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sparktune.advice.model import Severity
from sparktune.kernel.clock import since_boot_s
from sparktune.published import timestamp
from sparktune.snapshot import Advice, AdviceReport, AdviceSummary, EngineInfo
from sparktune.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sparktune.advice.examination import Suspect
    from sparktune.advice.model import Finding

Key = tuple[int, int, str]
MOST_FINDINGS = 256
_MOST_TEXT = 2000


def key_of(one: Suspect, finding: Finding) -> Key:
    """What makes a finding the same one: process and rule."""
    return one.sketch.pid, one.sketch.start_ticks, finding.rule


def build_report(
    suspects: Sequence[Suspect],
    findings: Sequence[tuple[Suspect, Finding]],
    since: dict[Key, str],
    *,
    ignored: tuple[str, ...],
    unseen: str = "",
) -> AdviceReport:
    """The document of `/advice`.

    Args:
        suspects: the engines.
        findings: what the rules say of them.
        since: when each was first found; new ones are added.
        ignored: rules that are silenced.
        unseen: which processes could not be seen; empty: none.
    """
    now = timestamp()
    said = [_advice(finding, since.setdefault(key_of(one, finding), now)) for one, finding in findings]
    said.sort(key=lambda advice: advice.severity != Severity.WARNING.value)
    return AdviceReport(
        looked_at=now,
        summary=sum_up(len(suspects), said, unseen=unseen),
        findings=tuple(said[:MOST_FINDINGS]),
        engines=tuple(_engine(one) for one in suspects if one.engine is not None),
        ignored=tuple(ignored),
        unseen=unseen,
    )


def sum_up(engines: int, findings: Sequence[Advice], *, unseen: str = "") -> AdviceSummary:
    """The line of `/status`; what could not be seen is never passed over in silence."""
    warnings = sum(advice.severity == Severity.WARNING.value for advice in findings)
    examined = f"{engines} engine{'' if engines == 1 else 's'} examined"
    says = f"nothing to advise, {examined}"
    if findings:
        costly = f" ({warnings} costly)" if warnings else ""
        count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}{costly}"
        says = f"{count}, {examined}: sparktune advise"
    if unseen:
        says += f"; not seen: {unseen.partition(':')[0]}"
    return AdviceSummary(enabled=True, engines=engines, findings=len(findings), warnings=warnings, says=says)


def _advice(finding: Finding, since: str) -> Advice:
    def text(value: str) -> str:
        return plain(value, most=_MOST_TEXT)

    return Advice(
        rule=finding.rule,
        severity=finding.severity.value,
        pid=finding.pid,
        engine=text(finding.engine),
        since=since,
        what=text(finding.what),
        why=text(finding.why),
        do=text(finding.do),
        expect=text(finding.expect),
        source=text(finding.source),
        certainty=finding.certainty.value,
    )


def _engine(one: Suspect) -> EngineInfo:
    engine, evidence, model = one.engine, one.evidence, one.answer.model
    if engine is None:
        raise ValueError("no engine")
    files = evidence.models
    named = (model.name or model.path.rpartition("/")[2], model.quantisation) if model else ()
    return EngineInfo(
        pid=engine.pid,
        kind=engine.kind.value,
        role=engine.role.value,
        name=engine.name,
        version=engine.version,
        version_from=engine.version_from,
        container=engine.container,
        unit=engine.unit,
        uid=engine.uid,
        started_at=_moment(engine.started_s),
        signs=engine.signs,
        model=", ".join(filter(None, named)),
        mapped_bytes=None if one.answer.models is None else _add(file.mapped_bytes for file in files or ()),
        resident_bytes=None
        if one.answer.models is None
        else _add(file.resident_bytes or 0 for file in files or ()),
        rdma=None if evidence.uverbs is None else bool(evidence.uverbs),
        queue_pairs=evidence.queue_pairs,
        unreadable=evidence.unreadable,
    )


def _add(sizes: Iterable[int]) -> int:
    return sum(sizes)


def _moment(started_s: float) -> str:
    """When that was, to the second: clock ticks tell no more."""
    started = datetime.now(UTC) - timedelta(seconds=since_boot_s() - started_s)
    return timestamp(started.replace(microsecond=0))
