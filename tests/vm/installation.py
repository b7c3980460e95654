"""The one installation that most scenarios share: performed once, lent out, looked at when it comes back."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vm import package
from vm.guest import CommandError, Guest, Result
from vm.link import LostError

if TYPE_CHECKING:
    from pathlib import Path

    from vm.figures import Figures
    from vm.workshop import Workshop

DOWNLOADS = "/var/tmp/downloads"  # noqa: S108 - in the guest


@dataclass
class Installation:
    """A guest with the package.

    Attributes:
        workshop: makes another guest, should a scenario have spoilt this one.
        result: what the README's line printed, and how long it took.
        before: values the kernel had before the installation, by path.
        status: what the README's `curl localhost:9300/status` said then, with the default configuration.
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
        """Boot a bare guest, install as the README says, wait until everything holds, freeze the disk."""
        guest = workshop.make("spark").start()
        before = read_attributes(guest)
        install, see = read_readme(deb)
        guest.put(f"{DOWNLOADS}/{deb.name}", deb)
        with guest.narrator.phase(f"{guest.name}: installing {deb.name} as the README says"):
            result = guest.run(f"cd {DOWNLOADS} && yes | {install}", limit_s=600)
        figures.record("installing the package", round(result.took_s, 2), "s")
        guest.wait_for_state("ok")
        defaults = json.loads(guest.out(see))
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

    def originals_of(self, guest: Guest) -> dict[str, str]:
        """What was there before the installation, of what a guest has: it may have fewer CPUs."""
        return {path: self.before[path] for path in read_attributes(guest)}

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


def read_readme(deb: Path) -> tuple[str, str]:
    """What the README's section says to type, on this package's architecture: to install, and to see it."""
    section = (package.REPOSITORY / "README.md").read_text(encoding="utf-8").partition("\n## Install\n")[2]
    block = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert block
    install, see = block[1].strip().splitlines()
    assert install.startswith("sudo apt install ./sparktune_")
    architecture = deb.stem.rpartition("_")[2]
    typed = install.removeprefix("sudo ").replace("arm64", architecture)  # root has no sudo here
    return typed, see.replace("curl", "curl --silent --show-error")


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
