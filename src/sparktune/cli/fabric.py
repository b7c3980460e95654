"""`sparktune fabric`: the ConnectX-7 functions port by port, so drawn that the wrong twin is seen at once.

Needs no daemon and no root: it looks itself, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sparktune.cli.local import is_supported, open_tuner
from sparktune.cli.options import json_option, places
from sparktune.cli.screen import Screen
from sparktune.errors import DaemonNotRunningError
from sparktune.fabric.checks import ACTIVE
from sparktune.fabric.report import findings_of, was_checked
from sparktune.fabrics import build_fabric
from sparktune.model import Noticed
from sparktune.published import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sparktune.fabric.report import FabricFinding, FabricReport, FunctionReport, OwnerReport
    from sparktune.places import Places
    from sparktune.tuner import Tuner

AREA = "roce"
_HEADERS = (
    "PORT",
    "TWIN",
    "VERDICT",
    "RDMA DEVICE",
    "STATE",
    "RATE",
    "MTU",
    "GID",
    "ADDRESS",
    "PCIE",
    "OWNER",
)
_EXIT_WRONG, _EXIT_UNSUPPORTED = 4, 5


@click.command()
@json_option
def fabric(*, as_json: bool) -> int:
    """Show the ConnectX-7 fabric: which port is cabled, its twins, their links, MTU, GID and owner.

    Reads everything now. What only growth tells (error counters, link flaps) is taken from the daemon, if it
    runs. Writes nothing.
    """
    where, screen = places(), Screen()
    with open_tuner(where, fall_back=True) as tuner:
        for held in tuner.engine.choose([AREA]):
            tuner.engine.look(held, Noticed.REQUEST, heal=False)
        found = build_fabric(tuner, published=_published(where, tuner))
        supported = is_supported(tuner)
    if as_json:
        screen.json(found)
    else:
        show(screen, found)
    if not supported:
        return _EXIT_UNSUPPORTED
    return _EXIT_WRONG if findings_of(found) or not was_checked(found) else 0


def _published(where: Places, tuner: Tuner) -> Sequence[dict[str, object]]:
    """What the daemon says of this machine's tunables; nothing while none runs."""
    try:
        if not fetch(where.run_dir, "status").trusted:
            return ()
        found = fetch(where.run_dir, "tunables").data.get("tunables")
    except DaemonNotRunningError:
        return ()
    return [one for one in found if one.get("area") == AREA] if isinstance(found, list) else ()


def show(screen: Screen, found: FabricReport) -> None:
    """The drawing, then what does not hold and what to do about it."""
    screen.head(_word(found), found.summary)
    if found.do:
        screen.tell("do:", found.do, indent=2)
    for line in found.evidence:
        screen.tell("seen:", line, indent=2)
    rows = [row for port in found.ports for row in _rows(port.name, port.twins, cabled=port.cabled)]
    rows += _rows("other", found.others, cabled=None) if found.others else []
    if rows:
        screen.say()
        screen.table(_HEADERS, rows)
    findings = findings_of(found)
    if findings:
        screen.say()
        for finding in findings:
            _tell(screen, finding)


def _word(found: FabricReport) -> str:
    if not found.ports and not found.others:
        return "absent"
    if not was_checked(found):
        return "degraded"
    return "drift" if findings_of(found) else "ok"


def _rows(name: str, twins: Sequence[FunctionReport], *, cabled: bool | None) -> list[tuple[str, ...]]:
    label = name if cabled is None else f"{name} {'cable' if cabled else 'no cable'}"
    rows = []
    for number, twin in enumerate(twins):
        last, first = number == len(twins) - 1, number == 0
        branch = ("──" if first else "└─") if last else ("┬─" if first else "├─")
        rows.append((label if first else "", f"{branch} {twin.name}", *_cells(twin)))
    return rows


def _cells(twin: FunctionReport) -> tuple[str, ...]:
    pcie = f"{twin.pcie_gts:g} GT/s x{twin.pcie_width}" if twin.pcie_gts and twin.pcie_width else ""
    driver = " (out of tree)" if twin.out_of_tree else ""
    return (
        twin.verdict,
        f"{twin.rdma or 'none'}{driver}",
        twin.state or ("no link" if twin.carrier is False else "down" if twin.carrier is None else "link"),
        f"{twin.rate_gbps:g} Gb/s" if twin.rate_gbps is not None and twin.state == ACTIVE else "",
        "" if twin.mtu is None else str(twin.mtu),
        "none" if twin.gid_index is None else str(twin.gid_index),
        ", ".join(twin.addresses) or twin.ipv4 or "none",
        pcie,
        _owner(twin.owner),
    )


def _owner(owner: OwnerReport) -> str:
    if owner.kind == "unknown":
        return "unknown: only root may read the files that tell"
    return f"{owner.kind}: {owner.file}" if owner.file else owner.kind


def _tell(screen: Screen, finding: FabricFinding) -> None:
    says = finding.reason or f"is {finding.actual}, expected {finding.wanted}"
    screen.tell(f"{finding.verdict}:", f"{finding.id}: {says}")
    if finding.do:
        screen.tell("do:", finding.do, indent=2)
