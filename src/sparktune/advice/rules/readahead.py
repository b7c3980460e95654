"""Read-ahead that came too late: it is copied into a file when that is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparktune.advice.model import Certainty, Rule, Severity
from sparktune.advice.rules.saying import find, path, size

if TYPE_CHECKING:
    from sparktune.advice.model import Engine, Evidence, Finding, HostFacts, ModelFacts, ModelFile

_CACHED = 0.95


def _judge(engine: Engine, evidence: Evidence, model: ModelFacts | None, host: HostFacts) -> Finding | None:
    older = [one for one in evidence.models or () if _is_older(engine, one)]
    if not older:
        return None
    file = older[0]
    changed = file.read_ahead_since_s or 0.0
    wanted = f" of {host.read_ahead_kb} KiB" if host.read_ahead_kb else ""
    return find(
        TOO_EARLY,
        engine,
        what=(
            f"holds {path(file.path)} {'open' if file.is_open else 'mapped'} and was started "
            f"{changed - engine.started_s:.0f} s before the read-ahead{wanted} was set on its disk"
        ),
        why="the kernel copies read-ahead into a file when it is opened: this one keeps the value of before",
        do="restart it when that suits you; sparktune applies before such services at the next boot",
        expect=_expect(file),
    )


def _is_older(engine: Engine, file: ModelFile) -> bool:
    since = file.read_ahead_since_s
    return since is not None and (file.is_open or file.mapped_bytes > 0) and engine.started_s < since


def _expect(file: ModelFile) -> str:
    resident, whole = file.resident_bytes, file.size_bytes or file.mapped_bytes
    if resident is not None and whole and resident >= _CACHED * whole:
        return f"Little as it is: {size(resident)} of it are in memory. It counts when pages are read again."
    return TOO_EARLY.expect


TOO_EARLY = Rule(
    id="opened-before-read-ahead",
    severity=Severity.INFO,
    looks_for="A process that opened its model before read-ahead was set on the disk.",
    evidence=(
        "An open or mapped model file, and a start of the process before sparktune last changed the "
        "read-ahead of the file's device. When a file was opened is not to be had: a start before it is "
        "what is reported."
    ),
    recommendation="Restart the process to benefit.",
    expect="Reads of the model in requests of the new size. No figure of a Spark has been published.",
    versions="Every engine and every kernel.",
    source="Linux mm/readahead.c, file_ra_state_init(), called when a file is opened",
    certainty=Certainty.SOURCE,
    judge=_judge,
)
