"""Lets every rule look at every engine. A rule that breaks costs itself and no other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sparktune.advice.rules import RULES
from sparktune.advice.surroundings import read_host
from sparktune.engine import survive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sparktune.advice.examination import Suspect
    from sparktune.advice.model import Engine, Finding
    from sparktune.tuner import Tuner

_MOST_GENERATIONS = 8


def judge(
    tuner: Tuner,
    suspects: Sequence[Suspect],
    tell: Callable[[str, Exception], None],
) -> list[tuple[Suspect, Finding]]:
    """The findings, by process and in the order of the rules.

    Args:
        tuner: the host, and which rules are silenced.
        suspects: processes that are engines.
        tell: told which rule broke, and how.
    """
    for one in suspects:
        if one.engine is not None:
            one.engine = replace(one.engine, group=_group(one.engine, suspects))
    host = read_host(tuner, engines=tuple(_engines(suspects)), fabric=tuner.fabric())
    ignored = tuner.settings.advice.ignore
    found: list[tuple[Suspect, Finding]] = []
    for one in suspects:
        for rule in RULES:
            if one.engine is None or rule.id in ignored:
                continue
            judged = partial(rule.judge, one.engine, one.evidence, one.answer.model, host)
            finding = survive(judged, partial(tell, rule.id))
            if finding is not None:
                found.append((one, finding))
    return found


def _engines(suspects: Iterable[Suspect]) -> Iterable[Engine]:
    return [one.engine for one in suspects if one.engine is not None]


def _group(engine: Engine, suspects: Sequence[Suspect]) -> int:
    """The pid of the highest engine process above this one, itself if there is none."""
    by_pid = {one.pid: one for one in _engines(suspects)}
    group, parent = engine.pid, engine.parent
    for _ in range(_MOST_GENERATIONS):
        if parent not in by_pid or by_pid[parent].kind is not engine.kind:
            break
        group, parent = parent, by_pid[parent].parent
    return group
