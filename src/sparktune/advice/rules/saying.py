"""How a rule makes its finding, and how sizes are written. Names that processes chose are made safe here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Finding, Severity
from sparktune.wording import plain

if TYPE_CHECKING:
    from sparktune.advice.model import Certainty, Engine, Rule

MIB = 1 << 20
GIB = 1 << 30


def find(
    rule: Rule,
    engine: Engine,
    *,
    what: str,
    why: str,
    do: str,
    expect: str = "",
    certainty: Certainty | None = None,
    severity: Severity | None = None,
) -> Finding:
    """The finding of a rule about a process; what is not given is the rule's own, severity at most that."""
    lower = Severity.INFO in (severity, rule.severity)
    return Finding(
        rule=rule.id,
        severity=Severity.INFO if lower else rule.severity,
        pid=engine.pid,
        engine=plain(engine.name),
        what=what,
        why=why,
        do=do,
        expect=expect or rule.expect,
        source=rule.source,
        certainty=certainty or rule.certainty,
    )


def size(number: int) -> str:
    """`1.5 GiB`, `300 MiB`, `12 KiB`."""
    if number >= GIB:
        return f"{number / GIB:.1f} GiB"
    return f"{number // MIB} MiB" if number >= MIB else f"{number // 1024} KiB"


def path(text: str) -> str:
    """A path for people: on one line, and from its end where it is long."""
    shown = plain(text, most=4 * _LONG)
    return shown if len(shown) <= _LONG else f"…{shown[1 - _LONG :]}"


_LONG = 90
