"""One daemon per host: a lock on the host's own /sys, the same whatever run or state directory is used."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from sparktune.errors import AlreadyRunningError, SparktuneError

if TYPE_CHECKING:
    from sparktune.kernel.root import Root


class HostLock:
    """Held until `close` or until the process ends, however it ends."""

    def __init__(self, root: Root) -> None:
        """Take the lock.

        Raises:
            AlreadyRunningError: another process holds it.
            SparktuneError: there is no /sys to lock.
        """
        directory = root.path("/sys")
        try:
            self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = "is --root a tree made by `sparktune simulate --tree-only`?" if not root.is_real else ""
            raise SparktuneError(f"cannot open {directory}: {error.strerror}", hint=hint) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise AlreadyRunningError(
                "another sparktune already tunes this host",
                hint="see `systemctl status sparktune` or `sparktune status`",
            ) from error

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)
