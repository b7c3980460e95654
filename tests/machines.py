"""A simulated machine with a configuration and a state directory, for tests of a tuner or an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparktune import hardware, settings
from sparktune.kernel.root import Root
from sparktune.model import Noticed
from sparktune.simulate import tree
from sparktune.tuner import Tuner

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.held import Held

READ_AHEAD = "/sys/block/nvme0n1/queue/read_ahead_kb"
NVME = "nvme.nvme0n1.read_ahead_kb"
CPUS = "/sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class Machine:
    """A tree, and what sparktune knows and keeps of it."""

    root: Root
    state_dir: Path
    config: Path
    tuners: list[Tuner] = field(default_factory=list)

    @classmethod
    def build(
        cls, directory: Path, variant: str = "gb10", config: str = "", *, scenario: str = ""
    ) -> Machine:
        """Build a machine in a new directory."""
        directory.mkdir(parents=True)
        tree.build(directory / "tree", variant, scenario=scenario)
        state_dir = directory / "state"
        state_dir.mkdir()
        machine = cls(Root(directory / "tree"), state_dir, directory / "sparktune.toml")
        machine.config.write_text(config)
        return machine

    @property
    def directory(self) -> Path:
        """The tree's directory."""
        return self.root.directory

    def effective(self, config: str | None = None) -> settings.Effective:
        """The configuration in force; another one if given."""
        if config is not None:
            self.config.write_text(config)
        return settings.load(self.config, host_names=("spark-9f8f",), environ={})

    def start(self, config: str | None = None, *, repair: bool = True) -> Tuner:
        """A new tuner on the same machine and state, as after a restart; everything is discovered."""
        host = hardware.detect(self.root)
        tuner = Tuner(host, self.effective(config), state_dir=self.state_dir, repair=repair)
        self.tuners.append(tuner)
        tuner.discover()
        return tuner

    def close(self) -> None:
        """Release the descriptors of all tuners, as the end of their processes would."""
        for one in (one for tuner in self.tuners for one in tuner.engine.held.values()):
            one.tunable.attribute.close()

    def tune(self, config: str | None = None) -> Tuner:
        """As `start`, and everything is applied."""
        tuner = self.start(config)
        tuner.engine.apply(None, Noticed.START)
        return tuner

    def read(self, name: str) -> str:
        """The stripped text of a file of the machine."""
        return self.root.path(name).read_text().strip()

    def write(self, name: str, text: str) -> None:
        """Write a file of the machine in place, as `echo` does."""
        self.root.path(name).write_text(f"{text}\n")

    def kept_originals(self) -> list[bytes]:
        """The lines of the originals on disk."""
        path = self.state_dir / "originals.jsonl"
        return path.read_bytes().splitlines() if path.exists() else []


def held(tuner: Tuner, id_: str = NVME) -> Held:
    """One tunable of a tuner."""
    return tuner.engine.held[id_]
