"""`sparktune plan`: the exact writes `apply` would do, each with reason, source and risk. Writes nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from sparktune.cli.grouping import group
from sparktune.cli.local import open_tuner
from sparktune.cli.options import json_option, names_argument, places
from sparktune.cli.planning import Plan, Write, make_plan
from sparktune.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sparktune.hardware import Host
    from sparktune.model import Note

_LABEL = 10
_REASONS = ("why", "source", "risk", "set by")
_EXIT_NOTHING_CHECKED, _EXIT_UNSUPPORTED = 4, 5


@click.command()
@names_argument
@click.option("-v", "--verbose", is_flag=True, help="Every file on its own, nothing grouped.")
@json_option
def plan(*, names: tuple[str, ...], verbose: bool, as_json: bool) -> int:
    """Show the exact writes `sparktune apply` would do now. Writes nothing.

    Reads the host and the configuration itself; needs no daemon and no root.
    """
    where = places()
    screen = Screen()
    with open_tuner(where) as tuner:
        made = make_plan(tuner, where, names)
        if as_json:
            screen.json({"host": tuner.host.name, "machine": tuner.host.verdict, **asdict(made)})
        else:
            _show(screen, tuner.host, made, verbose=verbose)
    if not made.supported:
        return _EXIT_UNSUPPORTED
    return 0 if made.read else _EXIT_NOTHING_CHECKED


def _show(screen: Screen, host: Host, made: Plan, *, verbose: bool) -> None:
    name, model = host.name or "this host", host.model or "unknown model"
    screen.say(f"plan for {name}: {model}, {host.verdict}, kernel {host.kernel}", style="bold")
    for text in _preface(made):
        screen.tell("", text)
    for area, notes in made.areas.items():
        screen.say()
        _show_area(screen, made, area, notes, verbose=verbose)
    screen.say()
    screen.say(_ending(made), style="bold")
    if made.writes and made.supported:
        screen.say("`sparktune apply` does it, `sparktune restore --all` undoes it.")


def _preface(made: Plan) -> Iterable[str]:
    if not made.supported:
        yield (
            "This machine is no GB10: the daemon would write NOTHING here. What follows is what it would do "
            "with require_gb10 = false. `sparktune detect` shows the evidence."
        )
    if made.switched_off:
        yield "sparktune=off is on the kernel command line: nothing is written until it is removed."
    if made.mode == "report":
        yield 'mode = "report": differences are reported, nothing is written.'
    if not made.daemon_runs:
        yield "No daemon is running here: whether somebody writes these values back is not known."


def _ending(made: Plan) -> str:
    count = len(made.writes)
    holding = sum(made.holding.values())
    left = f", {len(made.left)} left alone" if made.left else ""
    writes = "1 write" if count == 1 else f"{count} writes"
    return f"{writes}, {holding} as wanted already{left}; nothing was written."


def _show_area(screen: Screen, made: Plan, area: str, notes: Sequence[Note], *, verbose: bool) -> None:
    writes = [write for write in made.writes if write.area == area]
    screen.say(f"{area}: {_count(made, area, len(writes))}", style="bold")
    for note in notes:
        screen.tell(note.level, note.says + (f". {note.do}" if note.do else ""), indent=2, column=_LABEL)
    for reasons in dict.fromkeys(map(_reasons, writes)):
        for label, text in zip(_REASONS, reasons, strict=True):
            if text:
                screen.tell(label, text, indent=2, column=_LABEL)
        same = [write for write in writes if _reasons(write) == reasons]
        _show_writes(screen, same, verbose=verbose)
    _show_left(screen, made, area, verbose=verbose)


def _reasons(write: Write) -> tuple[str, ...]:
    """What many writes have in common, and what is told once for all of them."""
    return write.why, write.source, write.risk, f"{write.key} ({write.layer})"


def _count(made: Plan, area: str, writes: int) -> str:
    parts = ["1 write" if writes == 1 else f"{writes} writes"] if writes else []
    if holding := made.holding.get(area, 0):
        parts.append(f"{holding} as wanted already")
    if left := sum(item.area == area for item in made.left):
        parts.append(f"{left} left alone")
    if checks := made.checks.get(area, 0):
        parts.append(f"{checks} {'check' if checks == 1 else 'checks'} only read")
    return ", ".join(parts) or "nothing to do"


def _show_writes(screen: Screen, writes: Sequence[Write], *, verbose: bool) -> None:
    entries = [(write.file, replace(write, id="", file="")) for write in writes]
    for file, count, write in group(entries, most=len(writes) if verbose else 2):
        for command in write.before:
            screen.say(f"  {command}")
        screen.say(f"  {file}")
        for label, text in _describe(write, count):
            screen.tell(label, text, indent=4, column=_LABEL)


def _describe(write: Write, count: int) -> Iterable[tuple[str, str]]:
    files = f"{count} files, each " if count > 1 else ""
    label = f"  ({write.label})" if write.label else ""
    yield "write", f"{files}{write.found} → {write.wanted} {write.unit}".rstrip() + label
    original = "" if write.original is None else f"{write.original}, "
    yield "original", f"{original}{write.original_is}"
    if write.ends:
        yield "ends", write.ends
    if write.disruptive:
        yield "disturbs", write.disturbs or "running traffic, for a moment"


def _show_left(screen: Screen, made: Plan, area: str, *, verbose: bool) -> None:
    left = [item for item in made.left if item.area == area]
    entries = [(item.id, (item.found, item.wanted, item.reason)) for item in left]
    for name, _, (found, wanted, reason) in group(entries, most=len(left) if verbose else 2):
        values = "" if found is None else f"{found}, wanted {wanted}: "
        screen.tell("left", f"{name}: {values}{reason}", indent=2, column=_LABEL)
