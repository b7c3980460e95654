"""`sparktune detect`: what machine this is, with every piece of evidence. Needs no daemon and no root."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sparktune.cli.options import json_option, places
from sparktune.cli.screen import Screen
from sparktune.hardware import describe
from sparktune.hardware import detect as look

if TYPE_CHECKING:
    from sparktune.snapshot import Hardware

_LABEL = 14
_EXIT_UNSUPPORTED = 5


@click.command()
@json_option
def detect(*, as_json: bool) -> int:
    """Show what machine this is, and the evidence for and against it being a GB10."""
    hardware = describe(look(places().root))
    screen = Screen()
    if as_json:
        screen.json(hardware)
    else:
        _show(screen, hardware)
    return 0 if hardware.verdict == "gb10" else _EXIT_UNSUPPORTED


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
