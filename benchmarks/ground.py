"""What every measure stands on: directories, the loop device, compiled C programs, values that are put back.

Changes nothing by itself; whoever changes a value of the host does so inside `kept`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
SOURCES = Path(__file__).parent
_PROGRAM = (sys.executable, "-m", "sparktune.cli.main")
_TMPFS = Path("/dev/shm")  # noqa: S108 - only a new directory of our own is made there, mode 0700


class BenchError(Exception):
    """A measure cannot be taken. Its text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One sparktune: its machine, its configuration, its directories."""

    root: Path
    config: Path
    run_dir: Path
    state_dir: Path

    def command(self, *words: str) -> list[str]:
        """The command line `sparktune WORDS...` for this setup."""
        return [
            *_PROGRAM, "--root", str(self.root), "--config", str(self.config),
            "--run-dir", str(self.run_dir), "--state-dir", str(self.state_dir), *words,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The ground of one run.

    Attributes:
        quick: take fewer samples.
        disk: an empty directory on a real disk, for state and logs.
        memory: an empty directory in memory if there is a tmpfs, for trees and run directories.
        device: the loop device to use; empty: the first one without a backing file.
        idle_s: how long idle processes are watched; 0: as long as the measure likes.
    """

    quick: bool
    device: str
    disk: Path
    memory: Path
    idle_s: int = 0

    def pick_idle(self, full: int, quick: int) -> int:
        """The seconds for which idle processes are watched in this run."""
        return self.idle_s or self.pick(full, quick)

    def pick(self, full: int, quick: int) -> int:
        """The number for this run."""
        return quick if self.quick else full

    def say(self, text: str) -> None:
        """Tell on stderr how far it is."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def set_up(self, name: str, root: Path, config: str) -> Setup:
        """A sparktune on this root with this configuration; a name used before has its state still."""
        directory = self.disk / name
        directory.mkdir(exist_ok=True)
        (directory / "sparktune.toml").write_text(config)
        return Setup(
            root=root,
            config=directory / "sparktune.toml",
            run_dir=self.memory / f"{name}.run",  # as /run is
            state_dir=directory / "state",
        )

    def simulate(self, name: str, config: str = "") -> Setup:
        """A sparktune on a fresh simulated GB10."""
        from sparktune.simulate.tree import build

        build(self.memory / name)
        return self.set_up(name, self.memory / name, config)

    def find_device(self) -> str:
        """The loop device to tune. Raises BenchError if there is none to be had, or without root."""
        need_root()
        names = [path.name for path in Path("/sys/block").glob("loop*") if not (path / "loop").exists()]
        if self.device and self.device not in names:
            raise BenchError(f"skipped: {self.device} is no loop device without a backing file")
        if not names:
            raise BenchError("skipped: needs a loop device without a backing file (modprobe loop)")
        return self.device or min(names, key=natural)

    def compile(self, name: str) -> Path:
        """The program of `NAME.c`, compiled once a run. Raises BenchError where there is no compiler."""
        program = self.disk / name
        if not program.exists():
            compiler = shutil.which("cc") or shutil.which("gcc")
            if compiler is None:
                raise BenchError("skipped: needs a C compiler (apt install gcc)")
            command = [compiler, "-O2", "-Wall", "-o", str(program), str(SOURCES / f"{name}.c")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchError(f"skipped: {name}.c does not compile: {done.stderr.strip()[:200]}")
        return program


@contextmanager
def open_bench(*, quick: bool, device: str = "", idle_s: int = 0) -> Iterator[Bench]:
    """Make the directories of a run, and remove them at its end."""
    tmpfs = _TMPFS if _TMPFS.is_dir() and os.access(_TMPFS, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="sparktune-bench-", dir="/var/tmp") as disk,
        tempfile.TemporaryDirectory(prefix="sparktune-bench-", dir=tmpfs) as memory,
    ):
        yield Bench(quick=quick, device=device, disk=Path(disk), memory=Path(memory), idle_s=idle_s)


def need_root() -> None:
    """Raises BenchError for other users: fanotify with pids and writes to sysfs are root's."""
    if os.geteuid():
        raise BenchError("skipped: needs root")


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts `cpu2` before `cpu10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def read_ahead_file(device: str) -> Path:
    """The attribute that the real rows write."""
    return Path(f"/sys/block/{device}/queue/read_ahead_kb")


@contextmanager
def kept(attribute: Path) -> Iterator[None]:
    """Put back at the end what the attribute holds now."""
    value = attribute.read_text()
    try:
        yield
    finally:
        attribute.write_text(value)


def real_config(device: str, *, more: str = "") -> str:
    """A configuration that touches nothing of this machine but one block device's read-ahead."""
    return (
        f'require_gb10 = false\n{more}\n[nvme]\ndevices = ["{device}"]\n[cpuidle]\npolicy = "off"\n'
        '[roce]\npolicy = "off"\n[contest]\nafter = 0\n'
    )
