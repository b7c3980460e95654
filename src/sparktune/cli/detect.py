"""`sparktune detect`: what machine this is, with every piece of evidence, and who else tunes it.

Needs no daemon and no root: it looks itself, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sparktune.cli.local import open_tuner
from sparktune.cli.options import json_option, places
from sparktune.cli.screen import Screen
from sparktune.conflicts.look import Look
from sparktune.conflicts.ours import Ours
from sparktune.hardware import describe

if TYPE_CHECKING:
    from sparktune.places import Places
    from sparktune.snapshot import Conflict, Conflicts, Hardware

_LABEL = 14
_CONFLICT_LABEL = 6
_EXIT_UNSUPPORTED = 5


@click.command()
@json_option
def detect(*, as_json: bool) -> int:
    """Show what machine this is with the evidence, and which other tuners set what sparktune sets."""
    screen = Screen()
    hardware, error = _look(places())
    if as_json:
        screen.json(hardware)
    else:
        _show(screen, hardware)
        _show_conflicts(screen, hardware.conflicts, error)
    return 0 if hardware.verdict == "gb10" else _EXIT_UNSUPPORTED


def _look(where: Places) -> tuple[Hardware, str]:
    """The machine with its conflicts, and what is wrong with the configuration they are compared with."""
    with open_tuner(where, fall_back=True) as tuner:
        found = Look(Ours.of(tuner), show_all_text=True).finish()
        return describe(tuner.host, found), tuner.effective.error or ""


def _show(screen: Screen, hardware: Hardware) -> None:
    verdict = "this is a GB10 machine" if hardware.verdict == "gb10" else "this is no GB10 machine"
    screen.say(f"{hardware.verdict}: {verdict}", style="bold")
    screen.say()
    screen.table(
        ("EVIDENCE", "SPEAKS", "FOUND"),
        [(item.what, item.speaks, item.found) for item in hardware.evidence],
    )
    screen.say()
    for label, text in (
        ("host", hardware.name),
        ("vendor", hardware.vendor),
        ("model", hardware.model),
        ("family", hardware.family),
        ("board", hardware.board),
        ("kernel", f"{hardware.kernel} ({hardware.architecture}, pages of {hardware.page_size_kib} KiB)"),
        ("system", hardware.os_release),
        ("DGX release", hardware.dgx_release),
    ):
        screen.tell(label, text or "not found", column=_LABEL)
    screen.say()
    screen.table(
        ("CPUS", "COUNT", "KIND", "CORE", "TOLD APART BY"),
        [(item.cpus, item.count, item.kind, item.name or "?", item.read_from) for item in hardware.clusters],
    )


def _show_conflicts(screen: Screen, conflicts: Conflicts, error: str) -> None:
    screen.say()
    count = len(conflicts.found)
    looked = "looked at 1 file" if conflicts.files == 1 else f"looked at {conflicts.files} files"
    screen.say(f"CONFLICTS: {count or 'none'} found, {looked}; nothing was changed", style="bold")
    if error:
        says = f"the configuration is invalid ({error}); compared with the last good one, or the defaults"
        screen.tell("", says, indent=2)
    for conflict in conflicts.found:
        _show_conflict(screen, conflict)
    if conflicts.neighbours:
        screen.say()
        screen.say("other tuners that are enabled, and set nothing of ours:")
        for neighbour in conflicts.neighbours:
            screen.tell(f"{neighbour.unit}:", neighbour.says, indent=2)
    if conflicts.gaps:
        screen.say()
        screen.say("not looked at:")
        for gap in conflicts.gaps:
            screen.tell("", gap, indent=2)


def _show_conflict(screen: Screen, conflict: Conflict) -> None:
    screen.say(f"  {conflict.file}:{conflict.line}: {conflict.who}")
    agrees = {True: "agrees", False: "differs", None: "unclear"}[conflict.agrees]
    for label, text in (
        ("line", conflict.text),
        ("sets", conflict.attribute),
        ("is", f"{agrees}: {conflict.says}"),
        ("do", conflict.do),
    ):
        if text:
            screen.tell(label, text, indent=4, column=_CONFLICT_LABEL)
