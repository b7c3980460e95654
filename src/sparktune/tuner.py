"""One configuration applied to one host: discovery, engine and stores together.

The daemon runs it in a loop; the command line uses it once when no daemon runs. It starts no threads and
listens to nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sparktune.contest import ContestRule
from sparktune.engine import Engine
from sparktune.frozen import frozen
from sparktune.hardware import detect
from sparktune.kernel.fabric import read_fabric
from sparktune.marks import Marks
from sparktune.model import Note, Policy
from sparktune.originals import Originals
from sparktune.tunables import AREAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from sparktune.fabric.model import Fabric
    from sparktune.hardware import Host
    from sparktune.held import Adoption
    from sparktune.restoring import Outcome
    from sparktune.settings import Effective, Settings
    from sparktune.tunables.area import Area

_NOTES_AGE_S = 60.0
OFF_SWITCH = "sparktune=off"


@frozen
class AreaFacts:
    """What the last discovery of an area said beside its tunables.

    Attributes:
        absent: why it has no tunables; empty if it has.
        notes: what a person should know.
        fabric: gives the fabric as it was read last, where the area is about one.
    """

    absent: str
    notes: tuple[Note, ...]
    fabric: Callable[[], Fabric] | None = None


def is_switched_off(host: Host) -> bool:
    """Whether the kernel command line says `sparktune=off`: the switch that needs no login."""
    return OFF_SWITCH in (host.root.read("/proc/cmdline") or "").split()


def rule_of(settings: Settings) -> ContestRule:
    """The contest rule of a configuration."""
    contest = settings.contest
    return ContestRule(after=contest.after, window_s=contest.window, hold_s=contest.hold)


class Tuner:
    """Everything that is held on this host under this configuration."""

    def __init__(self, host: Host, effective: Effective, *, state_dir: Path, repair: bool) -> None:
        """Open the stores; discovers nothing yet.

        Args:
            host: the machine.
            effective: the configuration.
            state_dir: where originals and marks are.
            repair: set damaged stores aside; False for those who only look.
        """
        self.host = host
        self.effective = effective
        self.switched_off = is_switched_off(host)
        self.areas: dict[str, AreaFacts] = {}
        self._inventory: dict[str, object] = {}
        self._notes: tuple[Note, ...] = ()
        self._noted_s = float("-inf")
        self.engine = Engine(
            root=host.root,
            originals=Originals(state_dir / "originals.jsonl", host.boot_id, repair=repair),
            marks=Marks(state_dir / "marks.json", host.boot_id, repair=repair),
            rule=rule_of(effective.settings),
        )

    @property
    def settings(self) -> Settings:
        """The effective settings."""
        return self.effective.settings

    def refresh_host(self) -> None:
        """Look at the machine again: a CPU that comes online tells its kind only then."""
        self.host = detect(self.host.root)

    def reconfigure(self, effective: Effective) -> None:
        """Take over another configuration; the next discovery acts on it."""
        self.effective = effective
        self.engine.rule = rule_of(effective.settings)

    def policy(self, area: Area) -> Policy:
        """The effective policy of an area: `mode = "report"` caps it, the off switch ends it."""
        if self.switched_off:
            return Policy.OFF
        policy = area.policy(self.settings)
        capped = policy is Policy.ENFORCE and self.settings.mode == "report"
        return Policy.REPORT if capped else policy

    def discover(
        self, names: Iterable[str] | None = None, device: str | None = None, *, patient: bool = False
    ) -> list[Adoption]:
        """Find the tunables of some areas, or of one device in them, and hand them to the engine.

        `patient`: the configuration is the same, so what is no longer found may only be about to leave.
        """
        chosen = set(names) if names is not None else None
        return [
            self._discover(area, device, area.patience_s if patient else 0.0)
            for area in AREAS
            if chosen is None or area.name in chosen
        ]

    def _discover(self, area: Area, device: str | None, patience_s: float) -> Adoption:
        # First: what changes while the area is looked at differs from it, and the next sweep looks again.
        inventory = area.inventory(self.host, self.settings)
        found = area.discover(self.host, self.settings, device)
        self._noted_s = float("-inf")
        if device is None or area.name not in self.areas:
            self.areas[area.name] = AreaFacts(absent=found.absent, notes=found.notes, fabric=found.fabric)
            self._inventory[area.name] = inventory
        policy, layers = self.policy(area), dict(self.effective.origins)
        return self.engine.adopt(
            area.name, found.tunables, policy=policy, layers=layers, device=device, patience_s=patience_s
        )

    def release(self) -> list[Outcome]:
        """Put back what this configuration no longer manages."""
        return [] if self.switched_off else self.engine.release()

    def changed_areas(self) -> list[str]:
        """Areas to discover anew: an event was lost or never sent, or a device may only have been leaving."""
        in_doubt = self.engine.areas_in_doubt()
        return [
            area.name
            for area in AREAS
            if area.name in in_doubt
            or area.inventory(self.host, self.settings) != self._inventory.get(area.name)
        ]

    def areas_of(self, subsystem: str) -> list[str]:
        """Areas that a uevent of this subsystem concerns."""
        return [area.name for area in AREAS if subsystem in area.subsystems]

    def fabric(self) -> Fabric:
        """The fabric as the area that is about it read it last; read now if none did."""
        told = next((facts.fabric for facts in self.areas.values() if facts.fabric is not None), None)
        return told() if told is not None else read_fabric(self.host.root)

    def notes(self) -> tuple[Note, ...]:
        """Everything to know beside the verdicts; what changes by itself is at most a minute old."""
        now_s = time.monotonic()
        if now_s - self._noted_s >= _NOTES_AGE_S:
            self._noted_s, self._notes = now_s, self._collect_notes()
        return self._notes

    def _collect_notes(self) -> tuple[Note, ...]:
        notes: list[Note] = []
        for area in AREAS:
            if self.policy(area) is not Policy.OFF and area.name in self.areas:
                notes += self.areas[area.name].notes
                notes += area.observe(self.host, self.settings)
                notes += area.remark(self.engine.choose([area.name]))
        return tuple(notes)
