"""Where everything is on this machine. Finds nothing and opens nothing; cheap to import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sparktune.errors import SparktuneError
from sparktune.frozen import frozen

if TYPE_CHECKING:
    from pathlib import Path

    from sparktune.kernel.root import Root


@frozen
class Places:
    """Where everything is.

    Attributes:
        root: the host's files.
        config: the main configuration file.
        run_dir: where the state is published and the control socket lies.
        state_dir: where originals, marks, history and the last good configuration are kept.
    """

    root: Root
    config: Path
    run_dir: Path
    state_dir: Path

    @property
    def last_good(self) -> Path:
        """The last good configuration."""
        return self.state_dir / "last-good.json"

    @property
    def history(self) -> Path:
        """The history's database."""
        return self.state_dir / "history.db"


def make_directory(directory: Path, mode: int) -> None:
    """Make a directory with its parents if it is not there.

    Raises:
        SparktuneError: with what the kernel said.
    """
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)
    except OSError as error:
        hint = "run it as root, or give --run-dir and --state-dir" if os.geteuid() else ""
        raise SparktuneError(f"cannot make {directory}: {error.strerror}", hint=hint) from error
