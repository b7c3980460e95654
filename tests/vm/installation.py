"""The one installation that most scenarios share: performed once, lent out, looked at when it comes back."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vm.guest import CommandError, Guest, Result
from vm.link import LostError

if TYPE_CHECKING:
    from pathlib import Path

    from vm.figures import Figures
    from vm.workshop import Workshop


@dataclass
class Installation:
    """A guest with the package.

    Attributes:
        workshop: makes another guest, should a scenario have spoilt this one.
        result: what apt printed, and how long it took.
        before: values the kernel had before the installation, by path.
        status: what `curl localhost:9300/status` said with the default configuration.
        after: the values the kernel had then.
        disk: the root disk just after it, to boot others from.
        guest: the guest that is lent out; None: the next borrower gets a new one.
    """

    workshop: Workshop
    result: Result
    before: dict[str, str]
    status: dict[str, Any]
    after: dict[str, str]
    disk: Path
    guest: Guest | None

    @classmethod
    def perform(cls, workshop: Workshop, deb: Path, figures: Figures) -> Installation:
        """Boot a bare guest, install, wait until everything holds, freeze the disk."""
        guest = workshop.make("spark").start()
        before = read_attributes(guest)
        result = guest.install(deb)
        figures.record("installing the package", round(result.took_s, 2), "s")
        guest.wait_for_state("ok")
        defaults = guest.curl("/status")
        values = read_attributes(guest)
        let_idle_cpus_rest(guest)
        guest.run("sync")
        return cls(workshop, result, before, defaults, values, guest.freeze_disk(), guest)

    @classmethod
    def provide(cls, workshop: Workshop, deb: Path, figures: Figures, directory: Path) -> Installation:
        """Perform it if it is the directory's first of this package, else boot from the one kept there."""
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()[:12]
        kept = directory / f"installed-{digest}.qcow2"
        notes = kept.with_suffix(".json")
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not notes.exists():
                installation = cls.perform(workshop, deb, figures)
                installation.keep(kept, notes)
                return installation
        result, before, status, after = json.loads(notes.read_text())
        return cls(workshop, Result(**result), before, status, after, kept, None)

    def keep(self, disk: Path, notes: Path) -> None:
        """Copy the disk, a layer over the image, and note what is known about it."""
        subprocess.run(["cp", "--reflink=auto", str(self.disk), str(disk)], check=True)
        notes.write_text(json.dumps((asdict(self.result), self.before, self.status, self.after)))

    def borrow(self) -> Guest:
        """The shared guest, everything holding."""
        if self.guest is None:
            self.guest = self.workshop.make("spark", self.disk).start()
            self.guest.wait_for_state("ok")
        return self.guest

    def take_back(self) -> None:
        """Fail if a scenario did not leave everything holding; then the next one gets a new guest."""
        assert self.guest is not None
        try:
            self.guest.wait_for_state("ok")
        except (AssertionError, CommandError, LostError):
            self.guest.discard()
            self.guest = None
            raise


def let_idle_cpus_rest(guest: Guest) -> None:
    """Keep the first state in which a CPU really halts, where the defaults would leave only one that spins.

    On x86 that is POLL, and a guest whose CPUs spin takes two of the host's from whatever else is running.
    """
    if guest.platform.resting:
        guest.put("/etc/sparktune.toml.d/50-vm.toml", guest.platform.resting)
        guest.run("systemctl reload sparktune")
        guest.wait_for_state("ok")


def read_attributes(guest: Guest) -> dict[str, str]:
    """What the kernel has in every attribute that the defaults tune and that is there without sparktune."""
    idle = "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable"
    lines = guest.out(f"grep -H . /sys/block/nvme*/queue/read_ahead_kb {idle}")
    return dict(line.split(":", 1) for line in lines.splitlines())
