"""Tuners known by their unit: laptop-mode-tools, which sets read-ahead, and neighbours, which do not.

A neighbour is told, so that nobody has to wonder; it is no conflict.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from sparktune.conflicts.claim import Claim, Tuner
from sparktune.conflicts.commands import Write
from sparktune.conflicts.jobs import claim_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sparktune.conflicts.claim import Line
    from sparktune.conflicts.files import Files
    from sparktune.conflicts.ours import Ours
    from sparktune.conflicts.units import Units
    from sparktune.model import Tunable

LAPTOP_MODE = "/etc/laptop-mode/laptop-mode.conf"

NEIGHBOURS = {
    "auto-cpufreq.service": "scaling governor, frequencies and turbo",
    "cpufrequtils.service": "the scaling governor",
    "cpupower.service": "what its configuration says of governor, frequencies and energy preference",
    "laptop-mode.service": "power saving of disks and others",
    "nv-cpu-governor.service": "the scaling governor (NVIDIA's own, for performance)",
    "power-profiles-daemon.service": "platform profile, energy preference of the CPUs",
    "saptune.service": "what its notes say; these are not looked into: [block] READ_AHEAD_KB and [cpu] "
    "force_latency in one would be conflicts",
    "system76-power.service": "governor, frequencies, link power management",
    "tlp.service": "governor, frequencies, I/O scheduler, link and runtime power management",
}
"""What each sets, none of it ours. Sources: tlp.conf of TLP 1.11 (no key for read-ahead or idle states),
cpupower-service.conf of Linux 6.16, the units and manual pages of the others."""

_DEFAULTS = {
    "CONTROL_READAHEAD": "1",
    "ENABLE_LAPTOP_MODE_TOOLS": "1",
    "ENABLE_LAPTOP_MODE_ON_AC": "0",
    "HD": "/dev/[hs]d[abcdefgh]",
    "PARTITIONS": "auto /dev/mapper/*",
}


def read_neighbours(units: Units) -> Iterator[Tuner]:
    """Known tuners that are enabled."""
    for unit, says in NEIGHBOURS.items():
        if units.is_enabled(unit):
            yield Tuner(unit=unit, file=units.enabled.get(unit, "") or units.find(unit) or "", says=says)


def read_laptop_mode(ours: Ours, files: Files, units: Units) -> Iterator[Claim | None]:
    """The read-ahead that laptop-mode-tools sets; laptop-mode.conf(8) of version 1.74."""
    if not any(units.is_enabled(f"laptop-mode.{kind}") for kind in ("service", "timer")):
        return
    values, lines = dict(_DEFAULTS), dict[str, "Line"]()
    for line in files.lines(LAPTOP_MODE):
        if line.assignment is not None:
            key, value = line.assignment
            values[key], lines[key] = value.partition(" #")[0].strip().strip("\"'"), line
    yield None
    on_mains = values["ENABLE_LAPTOP_MODE_ON_AC"] not in {"", "0"}  # a Spark has no battery
    key = "LM_READAHEAD" if on_mains else "NOLM_READAHEAD"
    tunables = _chosen(ours, values["HD"], values["PARTITIONS"])
    if "0" in {values["CONTROL_READAHEAD"], values["ENABLE_LAPTOP_MODE_TOOLS"]} or key not in lines:
        return
    value = values[key]
    if tunables and value:  # empty: left alone
        known = value.isdecimal()
        yield claim_of(
            Write(tunables, value if known else "", "equal" if known else "unknown"),
            who="laptop-mode-tools",
            unit="laptop-mode.service",
            file=LAPTOP_MODE,
            number=lines[key].number,
            text=lines[key].parts[0].strip(),
            remove=f"set CONTROL_READAHEAD=0 in {LAPTOP_MODE}",
        )


def _chosen(ours: Ours, disks: str, partitions: str) -> tuple[Tunable, ...]:
    """Of disks in HD if PARTITIONS has `auto`; of mapped devices if it names them."""
    nodes: list[str] = []
    for word in partitions.split():
        if word == "auto":
            nodes += disks.split()
        elif word.startswith(("/dev/mapper/*", "/dev/dm-")):
            nodes.append("/dev/dm-*")
        elif word.startswith("/dev/"):
            nodes.append(word)
    found = {one.id: one for node in nodes for one in ours.find_disks(posixpath.normpath(node))}
    return tuple(found.values())
