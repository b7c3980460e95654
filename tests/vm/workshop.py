"""Makes guests: sets up the directory they live in, sees to it that all of it goes, whatever ends the run."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vm import image, initrd
from vm.guest import Guest
from vm.machine import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.machine import Wire
    from vm.narrator import Narrator
    from vm.platforms import Platform

ROOT_FILES = Path(__file__).parent / "rootfs"


class MissingToolError(RuntimeError):
    """A program of the host is not there; the message says how to get it."""


def require_tools(platform: Platform) -> None:
    """Raises MissingToolError with the apt line. Looks in the system's folders too, as do we from then on."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in platform.tools if shutil.which(tool) is None and not Path(tool).is_file()]
    if missing:
        packages = " ".join(sorted({platform.tools[tool] for tool in missing}))
        raise MissingToolError(
            f"not installed: {', '.join(missing)}; on Debian and Ubuntu: apt install {packages}"
        )


@contextmanager
def claim_output(preferred: Path) -> Iterator[Path]:
    """An emptied directory for logs and figures: the preferred one, or one beside it if a run has that."""
    for directory in (preferred, preferred.with_name(f"{preferred.name}-{os.getpid()}")):
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another run is at it
                continue
            shutil.rmtree(directory / "logs")
            (directory / "logs").mkdir()
            yield directory
            return


class Workshop:
    """A temporary directory, the image, and every guest that was made of it."""

    def __init__(self, platform: Platform, narrator: Narrator, logs: Path, *, patience: float = 1.0) -> None:
        """Provide the image, and what else all guests share."""
        require_tools(platform)
        self.platform = platform
        self.narrator = narrator
        self.directory = Path(tempfile.mkdtemp(prefix="sparktune-vm-"))
        self._guests: list[Guest] = []
        building = image.building_directory(platform)
        self._undertaker = start_undertaker(self.directory, building)
        built = image.provide(platform, building, narrator, logs / "image.log")
        self.site = Site(
            platform=platform,
            image=built,
            overlay=self._pack_root_files(),
            table=self._compile_table(),
            directory=self.directory,
            logs=logs,
            narrator=narrator,
            patience=patience * platform.slowness,
        )

    def make(
        self, name: str, base: Path | None = None, wire: Wire | None = None, cpus: int | None = None
    ) -> Guest:
        """A guest that is off, over the image or over the frozen disk of another; alone, or on a wire.

        What needs no second CPU had better have one: emulated, two that wait for each other cost a quarter.
        """
        taken = {guest.name for guest in self._guests}
        unique = name if name not in taken else f"{name}-{len(taken)}"
        guest = Guest(self.site, unique, base, wire, cpus)
        self._guests.append(guest)
        return guest

    def close(self) -> None:
        """End every guest and delete everything."""
        for guest in self._guests:
            guest.power_cut()
        self._undertaker.communicate()  # closes our end, and waits until it has removed everything

    def _pack_root_files(self) -> Path:
        """The files for the guest's root, under /overlay of the initrd; modes as in git, nothing else."""
        staging = self.directory / "staging"
        shutil.copytree(
            ROOT_FILES, staging / "overlay", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        archive = self.directory / "overlay.cpio"
        initrd.pack(staging, archive)
        return archive

    def _compile_table(self) -> Path:
        target = self.directory / "table"
        subprocess.run(
            ["iasl", "-p", str(target), str(self.platform.table)], check=True, stdout=subprocess.DEVNULL
        )
        return target.with_suffix(".aml")


def start_undertaker(*directories: Path) -> subprocess.Popen[bytes]:
    """A process that waits until we are done or gone, however we went, and then removes directories.

    More than once, as a builder that is being ended may still be writing into one.
    """
    script = 'cat; for try in 1 2 3 4 5 6 7 8 9; do rm -rf --one-file-system "$@" && exit; sleep 1; done'
    return subprocess.Popen(
        ["sh", "-c", script, "undertaker", *map(str, directories)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
