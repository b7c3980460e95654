"""A simulated machine on which tests place the files of other tuners; all that was placed goes after each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparktune.conflicts.look import Look
from sparktune.conflicts.ours import Ours

if TYPE_CHECKING:
    from collections.abc import Iterable

    from machines import Machine
    from sparktune.model import Tunable
    from sparktune.snapshot import Conflict, Conflicts

RULES = "/etc/udev/rules.d/60-rival.rules"
WANTS = "/etc/systemd/system/multi-user.target.wants"
_PLACES = ("etc/udev", "etc/systemd", "etc/tuned", "etc/tmpfiles.d", "etc/sysctl.d", "etc/sysfs.d",
           "etc/laptop-mode", "etc/cron.d", "etc/default", "etc/sysconfig", "etc/rcS.d", "usr", "run", "opt",
           "lib", "var/spool")  # fmt: skip
_FILES = ("etc/rc.local", "etc/sysctl.conf", "etc/sysfs.conf", "etc/crontab")


@dataclass
class Rivals:
    """The machine, what sparktune holds on it, and the rivals' files."""

    machine: Machine
    ours: Ours
    _command_line: str = field(default="")

    @classmethod
    def on(cls, machine: Machine, config: str = "") -> Rivals:
        """On a machine with this configuration of sparktune."""
        return cls(machine, Ours.of(machine.start(config)), machine.read("/proc/cmdline"))

    def configure(self, config: str) -> None:
        """Let sparktune hold something else."""
        self.ours = Ours.of(self.machine.start(config))

    def hold_also(self, *tunables: Tunable) -> None:
        """Let sparktune hold further tunables."""
        self.ours = Ours(self.ours.root, (*self.ours.tunables, *tunables), self.ours.areas)

    def place(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file."""
        path = self.machine.root.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def link(self, name: str, target: str) -> None:
        """Make a link, as the host has it: absolute, so that it leads out of the tree."""
        path = self.machine.root.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def boot(self, words: str) -> None:
        """Further words on the kernel command line."""
        self.machine.write("/proc/cmdline", f"{self._command_line} {words}".strip())

    def enable(self, unit: str, text: str, directory: str = "/etc/systemd/system") -> None:
        """Place a unit and enable it, as `systemctl enable` does."""
        self.place(f"{directory}/{unit}", text)
        self.link(f"{WANTS}/{unit}", f"{directory}/{unit}")

    def serve(self, unit: str, *commands: str) -> None:
        """Enable a service that runs these."""
        lines = "".join(f"ExecStart={command}\n" for command in commands)
        self.enable(unit, f"[Unit]\nDescription=a rival\n\n[Service]\nType=oneshot\n{lines}")

    def look(self) -> Conflicts:
        """Look at everything."""
        return Look(self.ours).finish()

    def found(self) -> tuple[Conflict, ...]:
        """The conflicts there are."""
        return self.look().found

    def only(self) -> Conflict:
        """The one conflict there is."""
        [conflict] = self.found()
        return conflict

    def clear(self) -> None:
        """Take away what was placed."""
        for name in _PLACES:
            shutil.rmtree(self.machine.root.path(name), ignore_errors=True)
        for name in _FILES:
            self.machine.root.path(name).unlink(missing_ok=True)
        self.boot("")


def brief(conflicts: Iterable[Conflict]) -> list[tuple[str, int, str | None, bool | None]]:
    """Where each one is, what it sets, and whether that is what we want."""
    return [(one.file, one.line, one.value, one.agrees) for one in conflicts]
